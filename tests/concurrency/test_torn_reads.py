"""What a reader gets was stored by one save, whole, and what several writers leave is one writer's, whole."""

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from tests.concurrency.crowd import (
    become,
    is_one_generation,
    is_one_generation_in_short,
    save_generations,
    together,
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


def new_target(provider: PersistenceProvider) -> str:
    """A workflow of generation 0."""
    instance = workflow(name="target")
    become(instance, 0)
    return provider.create_new_workflow(instance)


def read_everyhow(provider: PostgresPersistenceProvider, id: str) -> tuple[list[WorkflowInstance], WorkflowSummary]:
    """The workflow by every call that gives one, and its summary."""
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
def test_every_read_is_of_one_save(database_url: str, sql: Sql, level: str) -> None:
    """Whatever the database's default level of isolation, and whether the saves insert, update or delete."""
    [(name,)] = sql("SELECT current_database()")
    sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    with PostgresPersistenceProvider(database_url) as provider:
        id = new_target(provider)
        ended = threading.Event()
        last = threading.Barrier(WRITERS, ended.set, TIMEOUT)

        def write(number: int) -> list[WorkflowInstance]:
            save_generations(provider, id, range(1 + number * SAVES, 1 + (number + 1) * SAVES))
            last.wait()
            return []

        def read(_: int) -> list[WorkflowInstance]:
            loads: list[WorkflowInstance] = []
            while not ended.is_set():
                found, summary = read_everyhow(provider, id)
                assert is_one_generation_in_short(summary)
                loads.extend(found)
            return loads

        parts: list[Callable[[int], list[WorkflowInstance]]] = [write] * WRITERS + [read] * READERS
        loads = [load for each in together(len(parts), lambda number: parts[number](number)) for load in each]
        torn = [load for load in loads if not is_one_generation(load)]
        assert not torn
        assert len({load.version for load in loads}) > 10, "the readers have seen too little"


@pytest.mark.parametrize("place", ["own connections", "autocommitting connections", "transactions"])
def test_writers_without_a_stamp_do_not_mix(
    provider: PostgresPersistenceProvider, database_url: str, place: str
) -> None:
    """Of eight unconditional saves at once the store holds exactly one, with its pointers and no other's."""
    id = new_target(provider)
    start = threading.Barrier(8, timeout=TIMEOUT)
    between = threading.Barrier(8, timeout=TIMEOUT)
    stored: list[WorkflowInstance] = []

    def write(number: int) -> None:
        with psycopg.connect(database_url, autocommit=place == "autocommitting connections") as connection:
            joined = provider if place == "own connections" else provider.using(connection)
            for turn in range(12):
                instance = workflow(id=id, name="target")
                become(instance, 1 + number + 8 * turn)
                start.wait()
                joined.persist_workflow(instance)
                connection.commit()
                if between.wait() == 0:
                    stored.append(provider.get_workflow_instance(id))

    together(8, write)
    assert len(stored) == 12
    assert all(map(is_one_generation, stored))
    for turn, instance in enumerate(stored):
        assert instance.version - 8 * turn in range(1, 9), "the winner is none of this turn's writers"


def test_writers_with_and_without_a_stamp_do_not_mix(provider: PostgresPersistenceProvider) -> None:
    """A copy, which knows its stamp but not what was loaded, and one who saves over anything, and one who loads."""
    id = new_target(provider)
    generations = iter(range(1, 10_000))
    once = threading.Lock()

    def write(number: int) -> None:
        for _ in range(20):
            instance = provider.get_workflow_instance(id)
            if number % 3 == 0:
                instance.revision = None
            elif number % 3 == 1:
                instance = WorkflowInstance(**vars(instance))
            with once:
                become(instance, next(generations))
            with suppress(ConcurrencyError):
                provider.persist_workflow(instance)
            assert is_one_generation(provider.get_workflow_instance(id))

    together(6, write)
