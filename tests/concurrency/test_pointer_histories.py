"""Pointers come back as they were: their order, ids and fields, after whatever several hosts did to the list."""

import pickle
import random
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from tests.concurrency.crowd import together
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


def new_pointer(chance: random.Random) -> ExecutionPointer:
    """A pointer with something of its own in every field; its id may be in the list already."""
    return ExecutionPointer(
        chance.randrange(9),
        id=f"p{chance.randrange(30)}",
        active=chance.random() < 0.5,
        status=chance.choice(STATUSES),
        sleep_until=at(chance.random()),
        persistence_data={"tries": [chance.random()]},
        start_time=at(chance.random()),
        end_time=chance.choice([None, at(1)]),
        event_name=chance.choice([None, "paid"]),
        event_key=chance.choice([None, "order-1"]),
        event_published=chance.random() < 0.5,
        event_data=chance.choice([None, False, 0, "", [], {"a": None}]),
        step_name=chance.choice([None, "", "step"]),
        retry_count=chance.randrange(9),
        children=[f"p{chance.randrange(30)}"],
        context_item=chance.choice([None, 1, 1.0, True]),
        predecessor_id=chance.choice([None, "p1"]),
        outcome=chance.choice([None, "paid"]),
        scope=["outer"] * chance.randrange(3),
        extension_attributes={"seed": chance.random()},
    )


def _insert(chance: random.Random, pointers: Pointers) -> None:
    new = new_pointer(chance)
    pointers[:] = [it for it in pointers if it.id != new.id]
    pointers.insert(chance.randint(0, len(pointers)), new)


def _remove(chance: random.Random, pointers: Pointers) -> None:
    del pointers[chance.randrange(len(pointers)) : chance.randint(0, len(pointers))]


def _move(chance: random.Random, pointers: Pointers) -> None:
    moved = pointers.pop(chance.randrange(len(pointers)))
    pointers.insert(chance.randint(0, len(pointers)), moved)


def _change(chance: random.Random, pointers: Pointers) -> None:
    changed = chance.choice(pointers)
    changed.persistence_data["tries"].append(chance.random())
    changed.status = chance.choice(STATUSES)
    changed.sleep_until = at(0) + timedelta(microseconds=chance.randrange(9))


def _shuffle(chance: random.Random, pointers: Pointers) -> None:
    chance.shuffle(pointers)


CHANGES: list[Change] = [_insert, _insert, _insert, _remove, _move, _change, _shuffle]


def change(chance: random.Random, pointers: Pointers) -> None:
    """One to three of the changes that a host may make."""
    for _ in range(chance.randint(1, 3)):
        (chance.choice(CHANGES) if pointers else _insert)(chance, pointers)


def _keep(instance: WorkflowInstance) -> WorkflowInstance:
    return instance


def _pickle(instance: WorkflowInstance) -> WorkflowInstance:
    copy: WorkflowInstance = pickle.loads(pickle.dumps(instance))
    return copy


def _unstamp(instance: WorkflowInstance) -> WorkflowInstance:
    instance.revision = None
    return instance


WAYS: list[Callable[[WorkflowInstance], WorkflowInstance]] = [_keep, _keep, _keep, deepcopy, _pickle, _unstamp]


@pytest.mark.parametrize("seed", range(3))
def test_every_state_comes_back_as_it_was_saved(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, seed: int
) -> None:
    """Hosts load, change and save one workflow in turn and at once; each load is exactly some host's save.

    A second workflow, whose pointers have the same ids, is not touched: its rows are not even rewritten.
    """
    target = created(provider, workflow(new_pointer(random.Random(seed))))
    neighbour = workflow(*(pointer(f"p{number}") for number in range(30)))
    provider.create_new_workflow(neighbour)
    of_neighbour = "SELECT ctid, p.* FROM wfc.execution_pointers p WHERE workflow_id = %s ORDER BY position"
    untouched = sql(of_neighbour, [neighbour.id])
    saved: dict[int | None, WorkflowInstance] = {target.revision: deepcopy(target)}

    def host(number: int) -> list[WorkflowInstance]:
        chance = random.Random(100 * seed + number)
        with PostgresPersistenceProvider(database_url, pool_size=1) as own:
            return _live(own, target.id, chance, saved)

    loads = [load for each in together(HOSTS, host) for load in each]
    loads.append(provider.get_workflow_instance(target.id))
    assert len({load.revision for load in loads}) > TURNS
    for load in loads:
        assert state(load) == state(saved[load.revision])
    assert sql(of_neighbour, [neighbour.id]) == untouched
    [(stored, distinct)] = sql(
        "SELECT count(*), count(DISTINCT position) FROM wfc.execution_pointers WHERE workflow_id = %s", [target.id]
    )
    assert stored == distinct == len(loads[-1].execution_pointers)


def _live(
    own: PersistenceProvider, id: str, chance: random.Random, saved: dict[int | None, WorkflowInstance]
) -> list[WorkflowInstance]:
    loads = []
    instance = own.get_workflow_instance(id)
    for _ in range(TURNS):
        if chance.random() < 0.5:
            instance = own.get_workflow_instance(id)
            loads.append(deepcopy(instance))
        instance = chance.choice(WAYS)(instance)
        change(chance, instance.execution_pointers)
        try:
            own.persist_workflow(instance)
        except ConcurrencyError:
            instance = own.get_workflow_instance(id)
        else:
            saved[instance.revision] = deepcopy(instance)
    return loads


def _nothing(pointers: Pointers) -> None:
    """A save after which the pointers are as before."""


def _change_one(pointers: Pointers) -> None:
    pointers[3].persistence_data["tries"].append(2)


def _change_two(pointers: Pointers) -> None:
    pointers[7].status = PointerStatus.COMPLETE
    pointers[8].active = False


def _append(pointers: Pointers) -> None:
    pointers.append(pointer("new"))


def _put_in(pointers: Pointers) -> None:
    pointers.insert(5, pointer("new"))


def _take_out(pointers: Pointers) -> None:
    del pointers[4:6]


def _move_one(pointers: Pointers) -> None:
    pointers.insert(9, pointers.pop(2))


LOADED: list[Callable[[WorkflowInstance], WorkflowInstance]] = [_keep]
# A complete save knows no positions and assigns them anew, so pointers behind the first that moved get others.
ANY: list[Callable[[WorkflowInstance], WorkflowInstance]] = [_keep, deepcopy, _unstamp]


@pytest.mark.parametrize(
    ("touch", "changed", "ways"),
    [
        (_nothing, set(), ANY),
        (_change_one, {"p3"}, ANY),
        (_change_two, {"p7", "p8"}, ANY),
        (_append, {"new"}, ANY),
        (_put_in, {"new", *(f"p{number}" for number in range(5, 12))}, ANY),
        (_take_out, {"p4", "p5"}, LOADED),
        (_move_one, {f"p{number}" for number in range(2, 10)}, ANY),
    ],
)
def test_unchanged_pointers_are_not_rewritten(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    touch: Callable[[Pointers], Any],
    changed: set[str],
    ways: list[Callable[[WorkflowInstance], WorkflowInstance]],
) -> None:
    """Their rows stay where they are in the page; those behind one that is put in or moved get new positions."""
    for way in ways:
        instance = created(provider, workflow(*(pointer(f"p{number}") for number in range(12))))
        places = "SELECT ctid, xmin, id, position FROM wfc.execution_pointers"
        before = set(sql(places))
        instance = way(instance)
        touch(instance.execution_pointers)
        provider.persist_workflow(instance)
        assert {id for _, _, id, _ in before ^ set(sql(places))} == changed
        assert provider.get_workflow_instance(instance.id) == instance
