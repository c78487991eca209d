"""A load returns the state of exactly one save, and concurrent saves are never mixed."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest

from tests.concurrency.support import (
    is_consistent,
    is_consistent_summary,
    run_in_threads,
    save_generations,
    set_generation,
)
from tests.conftest import Sql
from wfe_postgres import (
    ConcurrencyError,
    PersistenceProvider,
    PostgresPersistenceProvider,
    WorkflowInstance,
    WorkflowSummary,
)
from wfe_postgres.testing.conformance.support import TIMEOUT, workflow

WRITERS = 4
READERS = 2
SAVES = 60
VERSIONS = 10


def new_target(provider: PersistenceProvider) -> str:
    """A workflow of generation 0."""
    instance = workflow(name="target")
    set_generation(instance, 0)
    return provider.create_new_workflow(instance)


def generations_of(writer: int, enough: Callable[[], bool]) -> Iterator[int]:
    """The generations that one of the writers saves: `SAVES`, and more until it is enough, within `TIMEOUT / 2`."""
    deadline = time.monotonic() + TIMEOUT / 2
    for turn in itertools.count():
        if turn >= SAVES and (enough() or time.monotonic() > deadline):
            return
        yield 1 + writer + turn * WRITERS


def load_in_every_way(provider: PostgresPersistenceProvider, id: str) -> tuple[list[WorkflowInstance], WorkflowSummary]:
    """Load the workflow with every method that returns one, and its summary."""
    loads = [
        provider.get_workflow_instance(id),
        provider.get_workflow_instance_by_name("target"),
        *provider.get_workflow_instances([id, "unknown"]),
    ]
    with provider.transaction() as joined:
        loads.append(joined.get_workflow_instance(id))
    [summary] = provider.find_workflows(definition_id="order").items
    return loads, summary


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_load_during_saves_returns_one_save(database_url: str, sql: Sql, level: str) -> None:
    """At every default isolation level, for saves that insert, update and delete pointers."""
    [(name,)] = sql("SELECT current_database()")
    sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    with PostgresPersistenceProvider(database_url) as provider:
        id = new_target(provider)
        ended = threading.Event()
        last = threading.Barrier(WRITERS, ended.set, TIMEOUT)
        seen: set[int] = set()

        def write(number: int) -> list[WorkflowInstance]:
            save_generations(provider, id, generations_of(number, lambda: len(seen) > VERSIONS))
            last.wait()
            return []

        def read(_: int) -> list[WorkflowInstance]:
            loads: list[WorkflowInstance] = []
            while not ended.is_set():
                found, summary = load_in_every_way(provider, id)
                assert is_consistent_summary(summary)
                loads.extend(found)
                seen.update(load.version for load in found)
            return loads

        parts: list[Callable[[int], list[WorkflowInstance]]] = [write] * WRITERS + [read] * READERS
        loads = [load for each in run_in_threads(len(parts), lambda number: parts[number](number)) for load in each]
        torn = [load for load in loads if not is_consistent(load)]
        assert not torn
        assert len(seen) > VERSIONS, "the readers saw too few versions"


@pytest.mark.parametrize("connections", ["own connections", "autocommitting connections", "transactions"])
def test_concurrent_unconditional_saves_are_not_mixed(
    provider: PostgresPersistenceProvider, database_url: str, connections: str
) -> None:
    """After eight concurrent unconditional saves the store holds exactly one of them, with only its pointers."""
    id = new_target(provider)
    start = threading.Barrier(8, timeout=TIMEOUT)
    between = threading.Barrier(8, timeout=TIMEOUT)
    stored: list[WorkflowInstance] = []

    def write(number: int) -> None:
        with psycopg.connect(database_url, autocommit=connections == "autocommitting connections") as connection:
            joined = provider if connections == "own connections" else provider.using(connection)
            for turn in range(12):
                instance = workflow(id=id, name="target")
                set_generation(instance, 1 + number + 8 * turn)
                start.wait()
                joined.persist_workflow(instance)
                connection.commit()
                if between.wait() == 0:
                    stored.append(provider.get_workflow_instance(id))

    run_in_threads(8, write)
    assert len(stored) == 12
    assert all(map(is_consistent, stored))
    for turn, instance in enumerate(stored):
        assert instance.version - 8 * turn in range(1, 9), "the stored version is not from this turn"


def test_concurrent_saves_with_and_without_revision_are_not_mixed(provider: PostgresPersistenceProvider) -> None:
    """Saves of loaded objects, of copies (a revision but no loaded state), and without a revision."""
    id = new_target(provider)
    generations = iter(range(1, 10_000))
    generation_lock = threading.Lock()

    def write(number: int) -> None:
        for _ in range(20):
            instance = provider.get_workflow_instance(id)
            if number % 3 == 0:
                instance.revision = None
            elif number % 3 == 1:
                instance = WorkflowInstance(**vars(instance))
            with generation_lock:
                set_generation(instance, next(generations))
            with suppress(ConcurrencyError):
                provider.persist_workflow(instance)
            assert is_consistent(provider.get_workflow_instance(id))

    run_in_threads(6, write)
