"""What a save sends and rewrites grows with what has changed, not with what there is."""

import copy
import random
import statistics
import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.protocol.calls import sized
from tests.protocol.proxy import Proxy
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.testing.conformance.support import created, pointer, subscription, workflow

MEGABYTE = 2**20
LITTLE = 10_000  # bytes

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def server_side(proxy: Proxy) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection of the test's own to the database behind the proxy."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        yield connection


def noise(length: int) -> str:
    """Text that does not compress."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


@contextmanager
def untouched(connection: psycopg.Connection[Any], workflow_id: str, *pointer_ids: str) -> Iterator[None]:
    """The block moves no pointer of the workflow but these."""

    def places() -> dict[str, str]:
        query = "SELECT id, ctid::text || ' ' || xmin::text FROM wfc.execution_pointers WHERE workflow_id = %s"
        rows = connection.execute(query, [workflow_id]).fetchall()
        return {id: place for id, place in rows if id not in pointer_ids}

    before = places()
    yield
    assert places() == before


def written_by(connection: psycopg.Connection[Any], provider: Provider, instance: WorkflowInstance) -> int:
    """Bytes of write-ahead log that a save takes."""
    position = "SELECT pg_current_wal_insert_lsn() - '0/0'"
    ((before,),) = connection.execute(position).fetchall()
    provider.persist_workflow(instance)
    ((after,),) = connection.execute(position).fetchall()
    return int(after - before)


def test_unchanged_pointers_stay_where_they_are(
    proxied: Provider, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Not even their place in the table changes, whatever happens to others: changed, added at the end, removed."""
    instance = created(proxied, workflow(*(pointer(f"p{index}", outcome={"n": index}) for index in range(20))))
    pointers = instance.execution_pointers
    with untouched(server_side, instance.id, "p3"):
        pointers[3].persistence_data["tries"].append(2)
        proxied.persist_workflow(instance)
    with untouched(server_side, instance.id, "p3", "p7", "new"):
        del pointers[7]
        pointers.append(pointer("new"))
        proxied.persist_workflow_with_subscriptions(instance, [subscription()])
    with untouched(server_side, instance.id):
        instance.data = {"changed": "the workflow alone"}
        proxied.persist_workflow(instance)
        proxied.persist_workflow(instance)
    assert proxied.get_workflow_instance(instance.id) == instance


def test_a_save_of_a_copy_rewrites_only_what_differs(
    proxied: Provider, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """All is sent, because nothing is known of what was loaded; what is stored like that already stays."""
    instance = copy.deepcopy(created(proxied, sized(20)))
    instance.execution_pointers[3].outcome = "changed"
    with untouched(server_side, instance.id, "pointer-3"):
        proxied.persist_workflow(instance)
    assert proxied.get_workflow_instance(instance.id) == instance


def test_unchanged_data_is_neither_sent_nor_rewritten(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A megabyte of it, beside a pointer that has changed and a status that has."""
    instance = created(proxied, workflow(data={"text": noise(MEGABYTE)}))
    instance.execution_pointers[0].outcome = "changed"
    instance.description = "changed"
    proxy.reset()
    assert written_by(server_side, proxied, instance) < LITTLE
    assert proxy.traffic.sent < LITTLE
    again = proxied.get_workflow_instance(instance.id)
    assert again == instance
    assert len(again.data["text"]) == MEGABYTE


def test_changed_data_is_sent_and_written(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """The measure itself: one character deep inside costs the megabyte."""
    instance = created(proxied, workflow(data={"text": noise(MEGABYTE)}))
    instance.data["text"] = "x" + instance.data["text"]
    proxy.reset()
    assert written_by(server_side, proxied, instance) > MEGABYTE
    assert proxy.traffic.sent > MEGABYTE


def test_unchanged_payloads_of_pointers_are_not_sent(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A pointer is the unit: another one's megabyte stays at home."""
    instance = created(proxied, workflow(pointer("big", persistence_data=noise(MEGABYTE)), pointer("small")))
    instance.execution_pointers[1].outcome = "changed"
    proxy.reset()
    assert written_by(server_side, proxied, instance) < LITTLE
    assert proxy.traffic.sent < LITTLE


def test_the_cost_of_a_save_does_not_grow_with_the_pointers(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """One changed pointer among 10 and among 1,000: the same log within a fifth, the same bytes sent."""
    log, sent = {}, {}
    for count in (10, 1000):
        instance = created(proxied, sized(count))
        log_of_each, sent_of_each = [], []
        for turn in range(31):
            instance.execution_pointers[count // 2].retry_count = turn
            proxy.reset()
            log_of_each.append(written_by(server_side, proxied, instance))
            sent_of_each.append(proxy.traffic.sent)
        log[count], sent[count] = statistics.median(log_of_each), statistics.median(sent_of_each)
    assert log[1000] == pytest.approx(log[10], rel=0.2)
    assert sent[1000] == pytest.approx(sent[10], rel=0.05)


def test_a_load_sends_little(proxied: Provider, proxy: Proxy) -> None:
    """A prepared statement's name and the id."""
    instance = created(proxied, sized(100))
    proxied.get_workflow_instance(instance.id)
    proxy.reset()
    proxied.get_workflow_instance(instance.id)
    assert proxy.traffic.sent < LITTLE
