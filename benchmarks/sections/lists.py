"""Calls on many things at once: many workflows loaded, many errors stored."""

from contextlib import closing
from functools import partial

from benchmarks.harness import Prepare
from benchmarks.implementations.floor_calls import FloorCalls
from benchmarks.implementations.rust import Rust
from benchmarks.samples import BEGIN, order
from benchmarks.scenario import FLOOR, OURS, RUST, Line, Stage, at_least, at_most, stores
from wfe_postgres import ExecutionError, PostgresPersistenceProvider

ONE_BY_ONE = "one by one"
POINTERS = 5


def run(stage: Stage) -> None:
    """Both lines."""
    for line in (stage.near, stage.far):
        url = line.through(stage.url)
        with (
            stores(url, OURS, RUST),
            PostgresPersistenceProvider(url) as provider,
            closing(Rust(url)) as rust,
            closing(FloorCalls(url)) as floor,
        ):
            _load_many(stage, line, provider, rust)
            _store_errors(stage, line, provider, rust, floor)


def _load_many(stage: Stage, line: Line, provider: PostgresPersistenceProvider, rust: Rust) -> None:
    ids = [provider.create_new_workflow(order(POINTERS)) for _ in range(stage.plan.listed)]
    ways: dict[str, Prepare] = {
        OURS: partial(partial, provider.get_workflow_instances, ids),
        ONE_BY_ONE: partial(partial, _one_by_one, provider, ids),
    }
    if _with_rust(stage, line, len(ids)):
        for id in ids:
            rust.create(order(POINTERS, id=id))
        ways[RUST] = partial(partial, rust.load_all, ids)
    race = stage.race(f"get_workflow_instances of {len(ids)}", ways, line=line, seconds=stage.plan.race * 0.7)
    far = line is stage.far
    stage.ratio(race.title, "times as fast as one by one", race.ratio(ONE_BY_ONE, OURS), None if far else at_least(4))
    if RUST in ways:
        stage.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
    if far:
        stage.value(race.title, "round trips", race.round_trips[OURS], target=at_most(1))


def _with_rust(stage: Stage, line: Line, round_trips: int) -> bool:
    return line is stage.near or round_trips <= stage.plan.slow_behind_delay


def _one_by_one(provider: PostgresPersistenceProvider, ids: list[str]) -> None:
    for id in ids:
        provider.get_workflow_instance(id)


def _store_errors(
    stage: Stage, line: Line, provider: PostgresPersistenceProvider, rust: Rust, floor: FloorCalls
) -> None:
    errors = [
        ExecutionError(f"workflow {n % 50}", f"pointer {n}", "ValueError: the card was declined", error_time=BEGIN)
        for n in range(stage.plan.errors)
    ]
    far = line is stage.far
    ways: dict[str, Prepare] = {
        OURS: partial(partial, provider.persist_errors, errors),
        FLOOR: partial(partial, floor.persist_errors, errors),
    }
    if _with_rust(stage, line, len(errors)):
        ways[RUST] = partial(partial, rust.persist_errors, errors)
    race = stage.race(f"persist_errors of {len(errors)}", ways, line=line, seconds=stage.plan.race * 0.7)
    stage.ratio(race.title, "of one unnest insert", race.ratio(OURS, FLOOR), None if far else at_most(1.3))
    if RUST in ways:
        stage.ratio(race.title, "times as fast as the Rust algorithm", race.ratio(RUST, OURS))
