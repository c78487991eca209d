"""Hosts whose queue takes no part in a transaction, or that have none: the application says when it is committed."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.host_faults.conftest import Settled
from tests.host_faults.kit.effects import Effects
from tests.host_faults.kit.local import host_of
from tests.host_faults.test_queue import QUICK, WAYS, at_rest, transaction
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider
from wfe_postgres.testing.services import InMemoryQueueProvider

Later = list[Callable[[], None]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("queued", [True, False])
def test_what_a_transaction_starts_reaches_a_host_at_rest_when_the_application_says_that_it_is_committed(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled, database_url: str, way: str, queued: bool
) -> None:
    """Through the queue; without one, the host that was asked."""
    queue, later = InMemoryQueueProvider() if queued else None, Later()
    with at_rest(provider, queue) as host, transaction(provider, database_url, way) as (given, commit):
        inside = host.using(given, on_commit=later.append)
        ids = [inside.start_workflow("quick"), inside.start_workflow("waits")]
        inside.publish_event("bell", "k")
        commit()
        assert effects.counts() == {}
        for tell in later:
            tell()
        settled(ids, timeout=20)


def test_listener_of_a_session_queues_after_the_commit(
    provider: PostgresPersistenceProvider, settled: Settled, effects: Effects
) -> None:
    def on_commit(tell: Callable[[], None]) -> None:
        event.listen(session, "after_commit", lambda _: tell(), once=True)

    with at_rest(provider, InMemoryQueueProvider()) as host, Session(provider.engine) as session:
        id = host.using(session, on_commit=on_commit).start_workflow("quick")
        session.commit()
        settled([id], timeout=20)
    assert effects.counts() == {"work": 1}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_queued_before_the_application_says_so(
    provider: PostgresPersistenceProvider, database_url: str, way: str
) -> None:
    queue = InMemoryQueueProvider()
    with transaction(provider, database_url, way) as (given, _):
        host_of(provider, QUICK, queue=queue).using(given, on_commit=Later().append).start_workflow("quick")
        given.rollback()
    assert queue.dequeue_work(QueueType.WORKFLOW) is None


def test_queue_that_takes_part_in_the_transaction_is_not_told_again(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    later = Later()
    with (
        PostgresQueueProvider(database_url) as queue,
        transaction(provider, database_url, "psycopg") as (given, commit),
    ):
        host_of(provider, QUICK, queue=queue).using(given, on_commit=later.append).start_workflow("quick")
        commit()
    assert (later, sql("SELECT count(*) FROM wfc.work_queue")) == ([], [(1,)])


def test_queue_that_fails_after_the_commit_is_no_error_of_the_application(
    provider: PostgresPersistenceProvider, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(InMemoryQueueProvider):
        def queue_work(self, id: str, queue: QueueType) -> None:
            raise ConnectionError("no queue")

    later: list[Any] = []
    with transaction(provider, database_url, "connection") as (given, commit):
        id = host_of(provider, QUICK, queue=Broken()).using(given, on_commit=later.append).start_workflow("quick")
        commit()
    later.pop()()
    assert provider.get_workflow_instance(id).id == id
    assert "the queue failed" in caplog.text
