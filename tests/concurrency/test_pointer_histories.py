"""Pointers are loaded with the order, ids and fields that were saved, after random changes by several hosts."""

import pickle
import random
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import Sql
from wfe_postgres import (
    ConcurrencyError,
    ExecutionPointer,
    PersistenceProvider,
    PointerStatus,
    PostgresPersistenceProvider,
    WorkflowInstance,
)
from wfe_postgres.testing.conformance.support import at, created, pointer, state, workflow

HOSTS = 4
TURNS = 40
STATUSES = list(PointerStatus)

Pointers = list[ExecutionPointer]
Change = Callable[[random.Random, Pointers], None]


def new_pointer(rng: random.Random) -> ExecutionPointer:
    """A pointer with random values in every field; its id may already be in the list."""
    return ExecutionPointer(
        rng.randrange(9),
        id=f"p{rng.randrange(30)}",
        active=rng.random() < 0.5,
        status=rng.choice(STATUSES),
        sleep_until=at(rng.random()),
        persistence_data={"tries": [rng.random()]},
        start_time=at(rng.random()),
        end_time=rng.choice([None, at(1)]),
        event_name=rng.choice([None, "paid"]),
        event_key=rng.choice([None, "order-1"]),
        event_published=rng.random() < 0.5,
        event_data=rng.choice([None, False, 0, "", [], {"a": None}]),
        step_name=rng.choice([None, "", "step"]),
        retry_count=rng.randrange(9),
        children=[f"p{rng.randrange(30)}"],
        context_item=rng.choice([None, 1, 1.0, True]),
        predecessor_id=rng.choice([None, "p1"]),
        outcome=rng.choice([None, "paid"]),
        scope=["outer"] * rng.randrange(3),
        extension_attributes={"seed": rng.random()},
    )


def _insert(rng: random.Random, pointers: Pointers) -> None:
    new = new_pointer(rng)
    pointers[:] = [it for it in pointers if it.id != new.id]
    pointers.insert(rng.randint(0, len(pointers)), new)


def _remove(rng: random.Random, pointers: Pointers) -> None:
    del pointers[rng.randrange(len(pointers)) : rng.randint(0, len(pointers))]


def _move(rng: random.Random, pointers: Pointers) -> None:
    moved = pointers.pop(rng.randrange(len(pointers)))
    pointers.insert(rng.randint(0, len(pointers)), moved)


def _change(rng: random.Random, pointers: Pointers) -> None:
    changed = rng.choice(pointers)
    changed.persistence_data["tries"].append(rng.random())
    changed.status = rng.choice(STATUSES)
    changed.sleep_until = at(0) + timedelta(microseconds=rng.randrange(9))


def _shuffle(rng: random.Random, pointers: Pointers) -> None:
    rng.shuffle(pointers)


CHANGES: list[Change] = [_insert, _insert, _insert, _remove, _move, _change, _shuffle]


def change(rng: random.Random, pointers: Pointers) -> None:
    """Make one to three random changes."""
    for _ in range(rng.randint(1, 3)):
        (rng.choice(CHANGES) if pointers else _insert)(rng, pointers)


def _keep(instance: WorkflowInstance) -> WorkflowInstance:
    return instance


def _pickle(instance: WorkflowInstance) -> WorkflowInstance:
    copy: WorkflowInstance = pickle.loads(pickle.dumps(instance))
    return copy


def _remove_revision(instance: WorkflowInstance) -> WorkflowInstance:
    instance.revision = None
    return instance


COPIES: list[Callable[[WorkflowInstance], WorkflowInstance]] = [
    _keep,
    _keep,
    _keep,
    deepcopy,
    _pickle,
    _remove_revision,
]


@pytest.mark.parametrize("seed", range(3))
def test_every_loaded_state_equals_a_saved_state(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, seed: int
) -> None:
    """Several hosts load, change and save one workflow concurrently; each load equals the save with its revision.

    The rows of a second workflow, whose pointers have the same ids, are not rewritten.
    """
    target = created(provider, workflow(new_pointer(random.Random(seed))))
    neighbour = workflow(*(pointer(f"p{number}") for number in range(30)))
    provider.create_new_workflow(neighbour)
    of_neighbour = "SELECT ctid, p.* FROM wfc.execution_pointers p WHERE workflow_id = %s ORDER BY position"
    untouched = sql(of_neighbour, [neighbour.id])
    saved: dict[int | None, WorkflowInstance] = {target.revision: deepcopy(target)}

    def host(number: int) -> list[WorkflowInstance]:
        rng = random.Random(100 * seed + number)
        with PostgresPersistenceProvider(database_url, pool_size=1) as own:
            return _run_host(own, target.id, rng, saved)

    loads = [load for each in run_in_threads(HOSTS, host) for load in each]
    loads.append(provider.get_workflow_instance(target.id))
    assert len({load.revision for load in loads}) > TURNS
    for load in loads:
        assert state(load) == state(saved[load.revision])
    assert sql(of_neighbour, [neighbour.id]) == untouched
    [(stored, distinct)] = sql(
        "SELECT count(*), count(DISTINCT position) FROM wfc.execution_pointers WHERE workflow_id = %s", [target.id]
    )
    assert stored == distinct == len(loads[-1].execution_pointers)


def _run_host(
    own: PersistenceProvider, id: str, rng: random.Random, saved: dict[int | None, WorkflowInstance]
) -> list[WorkflowInstance]:
    loads = []
    instance = own.get_workflow_instance(id)
    for _ in range(TURNS):
        if rng.random() < 0.5:
            instance = own.get_workflow_instance(id)
            loads.append(deepcopy(instance))
        instance = rng.choice(COPIES)(instance)
        change(rng, instance.execution_pointers)
        try:
            own.persist_workflow(instance)
        except ConcurrencyError:
            instance = own.get_workflow_instance(id)
        else:
            saved[instance.revision] = deepcopy(instance)
    return loads


def _nothing(pointers: Pointers) -> None:
    """A save without changes."""


def _change_one(pointers: Pointers) -> None:
    pointers[3].persistence_data["tries"].append(2)


def _change_two(pointers: Pointers) -> None:
    pointers[7].status = PointerStatus.COMPLETE
    pointers[8].active = False


def _append(pointers: Pointers) -> None:
    pointers.append(pointer("new"))


def _insert_one(pointers: Pointers) -> None:
    pointers.insert(5, pointer("new"))


def _remove_two(pointers: Pointers) -> None:
    del pointers[4:6]


def _move_one(pointers: Pointers) -> None:
    pointers.insert(9, pointers.pop(2))


LOADED: list[Callable[[WorkflowInstance], WorkflowInstance]] = [_keep]
# A complete save does not know the stored positions and reassigns them, which may change those of later pointers.
ANY: list[Callable[[WorkflowInstance], WorkflowInstance]] = [_keep, deepcopy, _remove_revision]


@pytest.mark.parametrize(
    ("touch", "changed", "copies"),
    [
        (_nothing, set(), ANY),
        (_change_one, {"p3"}, ANY),
        (_change_two, {"p7", "p8"}, ANY),
        (_append, {"new"}, ANY),
        (_insert_one, {"new", *(f"p{number}" for number in range(5, 12))}, ANY),
        (_remove_two, {"p4", "p5"}, LOADED),
        (_move_one, {f"p{number}" for number in range(2, 10)}, ANY),
    ],
)
def test_unchanged_pointers_are_not_rewritten(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    touch: Callable[[Pointers], Any],
    changed: set[str],
    copies: list[Callable[[WorkflowInstance], WorkflowInstance]],
) -> None:
    """Their rows keep their ctid and xmin; pointers behind an inserted or moved one may get new positions."""
    for copy in copies:
        instance = created(provider, workflow(*(pointer(f"p{number}") for number in range(12))))
        positions = "SELECT ctid, xmin, id, position FROM wfc.execution_pointers"
        before = set(sql(positions))
        instance = copy(instance)
        touch(instance.execution_pointers)
        provider.persist_workflow(instance)
        assert {id for _, _, id, _ in before ^ set(sql(positions))} == changed
        assert provider.get_workflow_instance(instance.id) == instance
