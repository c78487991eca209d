"""The conformance suite for queues on PostgreSQL: directly, on an application's engine, and elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

import pytest
from sqlalchemy import Engine

from tests.faults.kit.bouncer import left_behind, pgbouncer
from tests.faults.kit.form import require_tool
from tests.services.test_lock_conformance import engine, url
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider
from wfe_postgres.testing.conformance import QueueConformance

__all__ = ["engine", "url"]

Make = Callable[[], PostgresQueueProvider]


@contextmanager
def emptied(make: Make) -> Iterator[Make]:
    """The factory, on an empty table; what it has made is closed at the end."""
    made = [make()]
    with made[0].engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {made[0].schema}.work_queue")

    def make_one() -> PostgresQueueProvider:
        made.append(make())
        return made[-1]

    yield make_one
    for queue in made:
        queue.close()


class TestWithUrl(QueueConformance):
    """With an engine of its own for each provider."""

    @pytest.fixture
    def make_queue(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresQueueProvider, url)) as make:
            yield make


class TestWithoutNotify(QueueConformance):
    """Polling."""

    @pytest.fixture
    def make_queue(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresQueueProvider, url, notify=False, poll_interval=0.05)) as make:
            yield make


class TestInAnotherSchema(QueueConformance):
    """On an application's engine, beside a store in the default schema, whose queue is another one."""

    @pytest.fixture
    def make_queue(self, engine: Engine) -> Iterator[Make]:
        make_one = partial(PostgresQueueProvider.from_engine, engine, schema="s" * 60)
        make_one().ensure_store_exists()
        beside = PostgresQueueProvider.from_engine(engine)
        beside.queue_work("of another queue", QueueType.WORKFLOW)
        with emptied(make_one) as make:
            yield make
        assert beside.dequeue_work(QueueType.WORKFLOW) == "of another queue"


class TestUnderHostileDefaults(QueueConformance):
    """In a database with unusual defaults for time zone, date style, isolation level and others."""

    defaults: ClassVar[dict[str, str]] = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "default_transaction_isolation": "serializable",
        "search_path": "pg_catalog",
        "synchronous_commit": "off",
    }

    @pytest.fixture
    def make_queue(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresQueueProvider, url)) as make:
            yield make


class TestThroughPgBouncer(QueueConformance):
    """In transaction mode; nothing is left in the server's sessions."""

    @pytest.fixture
    def make_queue(self, server: str, url: str) -> Iterator[Make]:
        require_tool("pgbouncer")
        with pgbouncer(server) as bouncer:
            options = {"prepare_threshold": None}
            make_one = partial(PostgresQueueProvider, bouncer.url(url), connect_args=options, poll_interval=0.1)
            with emptied(make_one) as make:
                yield make
            assert left_behind(bouncer, url) == []
