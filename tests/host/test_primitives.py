"""Each control structure, run in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.host.kit import World, branch, fail, note, statuses
from wfe_postgres import PointerStatus, WorkflowStatus
from wfe_postgres.host import (
    Compensate,
    ExecutionResult,
    Retry,
    StepContext,
    Suspend,
    Terminate,
    WorkflowBuilder,
)


def count(context: StepContext) -> None:
    """A step that counts."""
    context.data["n"] = context.data.get("n", 0) + 1
    context.data["log"].append(f"count {context.data['n']}")


Build = Callable[[WorkflowBuilder], WorkflowBuilder]

PROGRAMS: dict[str, tuple[Build, list[str]]] = {
    "sequence": (lambda b: b.then(note("a")).then(note("b")), ["a", "b"]),
    "if": (lambda b: b.if_do(lambda _: True, branch(note("a"))).then(note("b")), ["a", "b"]),
    "if not": (lambda b: b.if_do(lambda _: False, branch(note("a"))).then(note("b")), ["b"]),
    "while": (
        lambda b: b.while_do(lambda c: c.data.get("n", 0) < 2, branch(count, note("x"))).then(note("b")),
        ["count 1", "x", "count 2", "x", "b"],
    ),
    "decide": (
        lambda b: b.decide(lambda _: 2, {1: branch(note("one")), 2: branch(note("two"))}).then(note("b")),
        ["two", "b"],
    ),
    "otherwise": (
        lambda b: b.decide(lambda _: [], [(1, branch(note("one")))], branch(note("other"))).then(note("b")),
        ["other", "b"],
    ),
    "no case": (lambda b: b.decide(lambda _: 3, {1: branch(note("one"))}).then(note("b")), ["b"]),
    "parallel": (
        lambda b: b.parallel(branch(note("a1"), note("a2")), branch(note("b1"))).then(note("c")),
        ["a1", "b1", "a2", "c"],
    ),
    "for each": (
        lambda b: b.for_each(lambda _: ["x", "y"], branch(note("a"), note("b"))).then(note("c")),
        ["a x", "a y", "b x", "b y", "c"],
    ),
    "for each in turn": (
        lambda b: b.for_each(["x", "y"], branch(note("a"), note("b")), parallel=False).then(note("c")),
        ["a x", "b x", "a y", "b y", "c"],
    ),
    "for none": (lambda b: b.for_each([], branch(note("a"))).for_each([], branch(note("a")), parallel=False), []),
    "delay": (lambda b: b.then(note("a")).delay(60).then(note("b")), ["a", "b"]),
    "schedule": (lambda b: b.schedule(60, branch(note("late"), note("later"))).then(note("a")), ["a", "late", "later"]),
    "recur": (
        lambda b: b.recur(60, branch(count), until=lambda c: c.data.get("n", 0) >= 2).then(note("a")),
        ["a", "count 1", "count 2"],
    ),
    "recur at intervals of the data": (
        lambda b: b.recur(lambda c: c.data.get("n", 1), branch(count), until=lambda c: c.data.get("n", 0) >= 2),
        ["count 1", "count 2"],
    ),
    "end": (
        lambda b: b.parallel(lambda x: x.then(note("a")).end_workflow().then(note("b")), lambda x: x.delay(9)).then(
            note("c")
        ),
        ["a"],
    ),
    "saga that succeeds": (
        lambda b: b.saga(lambda x: x.then(note("a"), compensate_with=note("undo a"))).then(note("b")),
        ["a", "b"],
    ),
    "saga that fails": (
        lambda b: b.saga(
            lambda x: (
                x.then(note("a"), compensate_with=note("undo a"))
                .then(note("b"))
                .then(note("c"), compensate_with=note("undo c"))
                .then(fail(9), on_error=Compensate(), compensate_with=note("undo fail"))
                .then(note("d"))
            )
        ).then(note("e")),
        ["a", "b", "c", "undo c", "undo a", "e"],
    ),
    "saga that is retried": (
        lambda b: b.saga(
            lambda x: x.then(note("a"), compensate_with=note("undo a")).then(fail(1, "b"), on_error=Compensate()),
            on_error=Retry(interval=1),
        ),
        ["a", "undo a", "a", "b"],
    ),
    "inner saga fails the outer one": (
        lambda b: b.saga(
            lambda x: x.then(note("a"), compensate_with=note("undo a")).saga(
                lambda y: y.then(note("b"), compensate_with=note("undo b")).then(fail(9), on_error=Compensate()),
                on_error=Compensate(),
            )
        ).then(note("c")),
        ["a", "b", "undo b", "undo a", "c"],
    ),
    "saga around branches": (
        lambda b: b.saga(
            lambda x: x.for_each([1, 2], lambda y: y.then(note("a"), compensate_with=note("undo a"))).then(
                fail(9), on_error=Compensate()
            )
        ),
        ["a 1", "a 2", "undo a 2", "undo a 1"],
    ),
    "retries": (lambda b: b.then(fail(2, "a"), on_error=Retry(interval=1, max_retries=2)).then(note("b")), ["a", "b"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_workflow_ends_with_the_effects_of_its_steps(name: str) -> None:
    build, log = PROGRAMS[name]
    instance = World(build(WorkflowBuilder("w")).build()).run()
    assert instance.data["log"] == log
    assert instance.status is WorkflowStatus.COMPLETE
    assert instance.next_execution is None
    assert instance.complete_time is not None
    assert PointerStatus.FAILED not in statuses(instance).values()


@pytest.mark.parametrize(
    ("on_error", "status"),
    [
        (Retry(max_retries=0), WorkflowStatus.SUSPENDED),
        (Suspend(), WorkflowStatus.SUSPENDED),
        (Compensate(), WorkflowStatus.SUSPENDED),
        (Terminate(), WorkflowStatus.TERMINATED),
    ],
)
@pytest.mark.parametrize("of_step", [True, False])
def test_failed_step_does_what_its_error_behavior_says(on_error: Any, status: WorkflowStatus, of_step: bool) -> None:
    builder = WorkflowBuilder("w", on_error=Retry() if of_step else on_error)
    builder.then(note("a")).then(fail(1), on_error=on_error if of_step else None).then(note("b"))
    world = World(builder.build())
    instance = world.run()
    assert (instance.status, instance.data["log"]) == (status, ["a"])
    assert statuses(instance) == {"a": PointerStatus.COMPLETE, "fail": PointerStatus.FAILED}
    [error] = world.provider.get_execution_errors()
    assert error.message.startswith("RuntimeError: failed on purpose\n")
    assert "kit.py" in error.message
    assert (instance.complete_time is None) == (status is WorkflowStatus.SUSPENDED)


@pytest.mark.parametrize(("skip_failed", "log"), [(False, ["a", "fail", "b"]), (True, ["a", "b"])])
def test_resumed_workflow_runs_the_failed_step_again_or_skips_it(skip_failed: bool, log: list[str]) -> None:
    world = World(WorkflowBuilder("w", on_error=Suspend()).then(note("a")).then(fail(1)).then(note("b")).build())
    instance = world.run()
    assert world.host.resume_workflow(instance.id, skip_failed=skip_failed)
    instance = world.go_on(instance.id)
    assert (instance.status, instance.data["log"]) == (WorkflowStatus.COMPLETE, log)


def test_step_decides_by_its_result_when_it_is_run_again() -> None:
    def step(context: StepContext) -> ExecutionResult:
        context.data["log"].append(
            (context.persistence_data, context.attempt, context.event and context.event.event_key)
        )
        results = [
            ExecutionResult.persist(1),
            ExecutionResult.sleep(60, 2),
            ExecutionResult.sleep_until(world.clock(), 3),
            ExecutionResult.wait_for_event("e", "k", persistence_data=4),
            ExecutionResult.branch(["x", None], 5),
            ExecutionResult.outcome({"done": True}),
        ]
        return results[context.persistence_data or 0]

    world = World(WorkflowBuilder("w").then(step, branches=[branch(note("x")), branch(note("y"))]).build())
    world.host.publish_event("e", "k")
    instance = world.run()
    assert instance.data["log"] == [
        [None, 1, None],
        [1, 1, None],
        [2, 1, None],
        [3, 1, None],
        [4, 1, "k"],
        "x x",
        "y x",
        "x",
        "y",
        [5, 1, "k"],
    ]
    assert instance.execution_pointers[0].outcome == {"done": True}


@pytest.mark.parametrize("waits", ["wait_for", "wait_for_event"])
def test_key_that_is_no_text_fails_the_wait_and_is_named(waits: str) -> None:
    builder = WorkflowBuilder("w", on_error=Suspend())
    if waits == "wait_for":
        builder.wait_for("paid", key=lambda _: 4711)  # type: ignore[arg-type,return-value]
    else:
        builder.then(lambda _: ExecutionResult.wait_for_event("paid", 4711), name="own")  # type: ignore[arg-type]
    world = World(builder.build())
    workflow = world.run()
    [error] = world.provider.get_execution_errors(workflow.id)
    assert error.message.startswith("ValueError: the key of an event 'paid' is text, not int")
