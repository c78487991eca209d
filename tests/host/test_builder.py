"""Definitions: the numbers and names of steps, and what is refused."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from wfe_postgres.host import ExecutionResult, Retry, StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider, ManualClock


def pick(context: StepContext) -> None:
    """A step."""


def unpick(context: StepContext) -> None:
    """A step that undoes another."""


async def fetch(context: StepContext) -> None:
    """A step that a host cannot run."""


class Fetch:
    """The same, as an object."""

    run = staticmethod(fetch)


class FetchWhenCalled:
    """The same, as a callable object."""

    async def __call__(self, context: StepContext) -> None:
        """Fetch it."""


class Ship:
    """A step that is an object."""

    def run(self, context: StepContext) -> ExecutionResult:
        """Ship it."""
        return ExecutionResult.next()


def test_steps_are_numbered_depth_first_in_the_order_in_which_they_are_met() -> None:
    definition = (
        WorkflowBuilder("order", 2, description="an order")
        .start_with(pick, compensate_with=unpick)
        .parallel(lambda b: b.start_with(pick).then(Ship()), lambda b: b.start_with(pick, name="other"))
        .then(Ship(), name="last")
        .build()
    )
    assert [(step.id, step.name, step.next) for step in definition.steps] == [
        (0, "pick", 2),
        (1, "unpick", None),
        (2, "Parallel", 6),
        (3, "pick", 4),
        (4, "Ship", None),
        (5, "other", None),
        (6, "last", None),
    ]
    assert definition.steps[2].branches == (3, 5)
    assert definition.steps[0].compensate_with == 1
    assert (definition.id, definition.version, definition.description) == ("order", 2, "an order")


Build = Callable[[WorkflowBuilder], Any]


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda b: b.build(), "definition 'w' has no step"),
        (lambda b: b.if_do(bool, lambda inner: inner), "step 'If': a branch has no step"),
        (lambda b: b.parallel(), "Parallel: there is no branch"),
        (lambda b: b.schedule(1, lambda inner: inner), "step 'Schedule': a branch has no step"),
        (lambda b: b.saga("pick"), "step 'Saga': a branch is a callable"),
        (lambda b: b.then(7), "step 'int' is neither callable nor an object with run"),
        (lambda b: b.then(Ship), "step 'Ship' is neither callable nor an object with run"),
        (lambda b: b.then(fetch), "step 'fetch' is asynchronous"),
        (lambda b: b.then(partial(fetch), name="it"), "step 'partial' is asynchronous"),
        (lambda b: b.then(Fetch()), "step 'Fetch' is asynchronous"),
        (lambda b: b.then(pick, compensate_with=FetchWhenCalled()), "step 'FetchWhenCalled' is asynchronous"),
        (lambda b: b.then(pick, on_error="retry"), "step 'pick': on_error is Retry"),
        (lambda b: b.then(pick, compensate_with=3), "step 'int' is neither"),
        (lambda b: b.delay(-1), "step 'delay': a time is"),
        (lambda b: b.delay("1"), "step 'delay'"),
        (lambda b: b.wait_for("e", key="k", timeout=timedelta(seconds=-1)), "step 'wait_for': a time is"),
        (lambda b: b.wait_for("e", key=4711), "the key of an event 'e' is text, not int"),
        (lambda b: b.recur(float("nan"), lambda inner: inner.then(pick), until=bool), "step 'recur': a time is"),
        (lambda b: b.start_with(pick).start_with(pick), "pick: start_with is for the first step"),
    ],
)
def test_wrong_definition_is_refused_with_the_name_of_the_step(build: Build, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build(WorkflowBuilder("w"))


@pytest.mark.parametrize("options", [{"interval": -1}, {"max_retries": -1}, {"backoff": 0.5}, {"max_interval": -1}])
def test_negative_retry_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Retry(**options)


def test_unknown_error_behavior_of_a_definition_is_refused() -> None:
    with pytest.raises(ValueError, match="definition 'w': on_error"):
        WorkflowBuilder("w", on_error=None)  # type: ignore[arg-type]


def test_interval_of_retries_grows_up_to_the_longest() -> None:
    retry = Retry(interval=timedelta(seconds=1), max_retries=None, backoff=2, max_interval=5)
    assert [retry.delay(number) for number in (1, 2, 3, 4, 5000)] == [1, 2, 4, 5, 5]
    assert [Retry(max_retries=1).delay(number) for number in (1, 2)] == [60, None]


def test_two_definitions_of_one_id_and_version_are_refused() -> None:
    first, second = (WorkflowBuilder("w").then(pick).build() for _ in range(2))
    host = WorkflowHost(InMemoryPersistenceProvider(), [first, first])
    with pytest.raises(ValueError, match="two definitions of 'w' version 1"):
        host.register(second)
    with pytest.raises(ValueError, match="two definitions"):
        WorkflowHost(InMemoryPersistenceProvider(), [first, second])


def test_builder_in_the_place_of_its_definition_is_refused() -> None:
    builder: Any = WorkflowBuilder("order").start_with(pick)
    with pytest.raises(ValueError, match=r"call its build\(\)"):
        WorkflowHost(InMemoryPersistenceProvider(), [builder])
    with pytest.raises(ValueError, match=r"call its build\(\)"):
        WorkflowHost(InMemoryPersistenceProvider()).register(builder)


def test_clock_of_a_host_cannot_be_replaced() -> None:
    host: Any = WorkflowHost(InMemoryPersistenceProvider())
    with pytest.raises(AttributeError, match="clock"):
        host.clock = ManualClock()


def test_highest_version_is_started_unless_another_is_named() -> None:
    provider = InMemoryPersistenceProvider()
    definitions = [WorkflowBuilder("w", version).then(pick).build() for version in (1, 3, 2)]
    host = WorkflowHost(provider, definitions)
    assert provider.get_workflow_instance(host.start_workflow("w")).version == 3
    assert provider.get_workflow_instance(host.start_workflow("w", version=2)).version == 2
    for id, version in (("w", 4), ("other", None)):
        with pytest.raises(LookupError, match="the host knows no definition"):
            host.start_workflow(id, version=version)


@pytest.mark.parametrize("options", [{"threads": 0}, {"lease": 0}, {"poll_interval": 0}, {"lease": -1}])
def test_host_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        WorkflowHost(InMemoryPersistenceProvider(), **options)
