"""The cost of a save depends on the size of the change, not on the size of the workflow."""

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
FEW_BYTES = 10_000  # bytes

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def server_side(proxy: Proxy) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A direct connection to the database behind the proxy."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        yield connection


def noise(length: int) -> str:
    """Text that does not compress."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


@contextmanager
def not_rewritten(connection: psycopg.Connection[Any], workflow_id: str, *pointer_ids: str) -> Iterator[None]:
    """Check that the block rewrites no pointer row of the workflow except those in `pointer_ids`."""

    def row_versions() -> dict[str, str]:
        query = "SELECT id, ctid::text || ' ' || xmin::text FROM wfc.execution_pointers WHERE workflow_id = %s"
        rows = connection.execute(query, [workflow_id]).fetchall()
        return {id: version for id, version in rows if id not in pointer_ids}

    before = row_versions()
    yield
    assert row_versions() == before


def written_by(connection: psycopg.Connection[Any], provider: Provider, instance: WorkflowInstance) -> int:
    """The number of bytes of write-ahead log that the save writes."""
    position = "SELECT pg_current_wal_insert_lsn() - '0/0'"
    ((before,),) = connection.execute(position).fetchall()
    provider.persist_workflow(instance)
    ((after,),) = connection.execute(position).fetchall()
    return int(after - before)


def test_save_does_not_rewrite_unchanged_pointers(
    proxied: Provider, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Their ctid and xmin stay the same while other pointers are changed, appended or removed."""
    instance = created(proxied, workflow(*(pointer(f"p{index}", outcome={"n": index}) for index in range(20))))
    pointers = instance.execution_pointers
    with not_rewritten(server_side, instance.id, "p3"):
        pointers[3].persistence_data["tries"].append(2)
        proxied.persist_workflow(instance)
    with not_rewritten(server_side, instance.id, "p3", "p7", "new"):
        del pointers[7]
        pointers.append(pointer("new"))
        proxied.persist_workflow_with_subscriptions(instance, [subscription()])
    with not_rewritten(server_side, instance.id):
        instance.data = {"changed": "the workflow alone"}
        proxied.persist_workflow(instance)
        proxied.persist_workflow(instance)
    assert proxied.get_workflow_instance(instance.id) == instance


def test_save_of_copy_rewrites_only_changed_pointers(
    proxied: Provider, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """A copy has no loaded state, so all pointers are sent, but rows that are equal are not updated."""
    instance = copy.deepcopy(created(proxied, sized(20)))
    instance.execution_pointers[3].outcome = "changed"
    with not_rewritten(server_side, instance.id, "pointer-3"):
        proxied.persist_workflow(instance)
    assert proxied.get_workflow_instance(instance.id) == instance


def test_save_neither_sends_nor_rewrites_unchanged_data(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """One megabyte of unchanged data, with a changed pointer and a changed description."""
    instance = created(proxied, workflow(data={"text": noise(MEGABYTE)}))
    instance.execution_pointers[0].outcome = "changed"
    instance.description = "changed"
    proxy.reset()
    assert written_by(server_side, proxied, instance) < FEW_BYTES
    assert proxy.traffic.sent < FEW_BYTES
    reloaded = proxied.get_workflow_instance(instance.id)
    assert reloaded == instance
    assert len(reloaded.data["text"]) == MEGABYTE


def test_save_sends_and_writes_changed_data(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Check the measurement: changing one character of the data sends and writes the whole megabyte."""
    instance = created(proxied, workflow(data={"text": noise(MEGABYTE)}))
    instance.data["text"] = "x" + instance.data["text"]
    proxy.reset()
    assert written_by(server_side, proxied, instance) > MEGABYTE
    assert proxy.traffic.sent > MEGABYTE


def test_save_does_not_send_payloads_of_unchanged_pointers(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Changes are tracked per pointer: the megabyte of another pointer is not sent."""
    instance = created(proxied, workflow(pointer("big", persistence_data=noise(MEGABYTE)), pointer("small")))
    instance.execution_pointers[1].outcome = "changed"
    proxy.reset()
    assert written_by(server_side, proxied, instance) < FEW_BYTES
    assert proxy.traffic.sent < FEW_BYTES


def test_save_after_a_renewal_does_not_send_what_is_unchanged(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Neither the save nor the renewal sends the megabytes of the data and of a pointer."""
    instance = workflow(pointer("big", outcome=noise(MEGABYTE)), pointer("small"), data=noise(MEGABYTE))
    created(proxied, instance)
    assert instance.revision is not None
    proxy.reset()
    instance.revision = proxied.renew_workflow(instance.id, instance.revision, 7)
    assert proxy.traffic.sent < FEW_BYTES
    instance.next_execution = 7
    instance.execution_pointers[1].outcome = "changed"
    with not_rewritten(server_side, instance.id, "small"):
        assert written_by(server_side, proxied, instance) < FEW_BYTES
    assert proxy.traffic.sent < FEW_BYTES
    assert proxied.get_workflow_instance(instance.id) == instance


def test_cost_of_save_does_not_grow_with_number_of_pointers(
    proxied: Provider, proxy: Proxy, server_side: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """One changed pointer of 10 and of 1,000: equal log size within 20 %, equal bytes sent within 5 %."""
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


def test_load_sends_few_bytes(proxied: Provider, proxy: Proxy) -> None:
    """Only the name of the prepared statement and the id are sent."""
    instance = created(proxied, sized(100))
    proxied.get_workflow_instance(instance.id)
    proxy.reset()
    proxied.get_workflow_instance(instance.id)
    assert proxy.traffic.sent < FEW_BYTES
