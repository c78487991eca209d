"""Builds workflow definitions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from wfe_postgres.host import primitives
from wfe_postgres.host.context import StepContext
from wfe_postgres.host.definitions import AnyStep, Step, StepFunction, WorkflowDefinition, name_of, run_of
from wfe_postgres.host.errors import ErrorBehavior, Retry, require_behavior
from wfe_postgres.host.primitives import Condition, Into
from wfe_postgres.host.results import Time, checked

Branch = Callable[["WorkflowBuilder"], object]
"""A part of a workflow: it is given an empty builder and adds its steps."""

Duration = Time | Callable[[StepContext], Time]

_DEFAULT = Retry()


class WorkflowBuilder:
    """Builds a `WorkflowDefinition`, step by step. Each method returns the builder.

    Steps are numbered in the order in which they are met, depth first; workflows that run are stored with these
    numbers and the names of the steps. `on_error`: what happens when a step without an `on_error` of its own fails.

    A branch is a callable that is given an empty builder. Times are seconds, a `timedelta`, or
    a callable of the context that gives one of these.

    Every method raises `ValueError`, with the name of the step, for an empty branch, a step that is neither callable
    nor has `run`, an unknown error behavior, and a negative time.
    """

    def __init__(
        self, id: str, version: int = 1, *, description: str | None = None, on_error: ErrorBehavior = _DEFAULT
    ) -> None:
        require_behavior(on_error, f"definition {id!r}")
        self._id = id
        self._version = version
        self._description = description
        self._on_error = on_error
        self._steps: list[Step] = []
        self._first: int | None = None
        self._last: int | None = None

    def start_with(self, step: AnyStep, **options: Any) -> Self:
        """The first step: as `then`. Raises `ValueError` if there is a step already."""
        if self._first is not None:
            raise ValueError(f"{name_of(step)}: start_with is for the first step, then for the others")
        return self.then(step, **options)

    def then(
        self,
        step: AnyStep,
        *,
        name: str | None = None,
        on_error: ErrorBehavior | None = None,
        compensate_with: AnyStep | None = None,
        transaction: bool = True,
        branches: Sequence[Branch] = (),
    ) -> Self:
        """Run the step, then go on. A step is a callable of the `StepContext`, or a `StepBody`; it returns an
        `ExecutionResult`, or `None` for `ExecutionResult.next()`.

        `name`: by default that of the function or class. `compensate_with` undoes the step when a saga around it fails.
        `transaction=False`: without the host's transaction, for a step that takes long. `branches`: what begins when
        the step returns `ExecutionResult.branch`.
        """
        return self._add(
            name or name_of(step),
            run_of(step),
            branches,
            on_error=on_error,
            compensate_with=compensate_with,
            transaction=transaction,
        )

    def wait_for(
        self,
        event_name: str,
        *,
        key: str | Callable[[StepContext], str],
        as_of: datetime | Callable[[StepContext], datetime] | None = None,
        into: Into = None,
        timeout: Duration | None = None,
        on_timeout: Branch | None = None,
    ) -> Self:
        """Wait for an event of this name and key, published at `as_of` or later (by default: since the workflow began).

        `key`, `as_of`: a value or a callable of the context. `into` takes the event's data: a key of the workflow's
        data, or a callable of the context and the event. After `timeout` the branch `on_timeout` is run; without one
        the step fails with `WaitTimeoutError`.
        """
        handled = () if on_timeout is None else (on_timeout,)
        wait = primitives.wait_for(
            event_name, key, as_of, into, checked(timeout, "wait_for"), handles_timeout=bool(handled)
        )
        return self._add("WaitFor", wait, handled)

    def delay(self, time: Duration) -> Self:
        """Go on after this time."""
        return self._add("Delay", primitives.delay(checked(time, "delay")))

    def decide(
        self,
        value: Callable[[StepContext], Any],
        cases: Mapping[Any, Branch] | Iterable[tuple[Any, Branch]],
        otherwise: Branch | None = None,
    ) -> Self:
        """Run the branch of the case that equals the value, which a callable of the context gives; else `otherwise`."""
        pairs = primitives.cases_of(cases)
        branches = [branch for _, branch in pairs] + ([] if otherwise is None else [otherwise])
        body = primitives.decide(value, [case for case, _ in pairs], otherwise=otherwise is not None)
        return self._add("Decide", body, branches)

    def if_do(self, condition: Condition, branch: Branch) -> Self:
        """Run the branch if the condition, a callable of the context, holds."""
        return self._add("If", primitives.if_do(condition), [branch])

    def while_do(self, condition: Condition, branch: Branch) -> Self:
        """Run the branch as long as the condition, a callable of the context, holds."""
        return self._add("While", primitives.while_do(condition), [branch], is_sequential=True)

    def for_each(
        self, items: Iterable[Any] | Callable[[StepContext], Iterable[Any]], branch: Branch, *, parallel: bool = True
    ) -> Self:
        """Run the branch once for each item, which is `context.item` there: all at once, or one after the other.

        `items`: JSON values, or a callable of the context that gives them, once, when the workflow comes here.
        """
        body = primitives.for_each(items) if parallel else primitives.for_each_in_turn(items)
        return self._add("ForEach", body, [branch], is_sequential=not parallel)

    def parallel(self, *branches: Branch) -> Self:
        """Run all branches, and go on when each has ended. Raises `ValueError` without a branch."""
        if not branches:
            raise ValueError("Parallel: there is no branch")
        return self._add("Parallel", primitives.parallel, branches)

    def saga(self, branch: Branch, *, on_error: ErrorBehavior | None = None) -> Self:
        """Run the branch; when a step in it fails for good, compensate what was completed, in reverse order.

        `on_error` decides what follows the compensation: `Retry` runs the saga again from its start; by default the
        workflow goes on after the saga.
        """
        body = primitives.saga(fails=on_error is not None)
        return self._add("Saga", body, [branch], on_error=on_error, is_saga=True, is_sequential=True)

    def schedule(self, time: Duration, branch: Branch) -> Self:
        """Go on at once, and run the branch after this time. The workflow ends when both have ended."""
        delay = primitives.delay(checked(time, "schedule"))

        def begin(builder: WorkflowBuilder) -> None:
            builder._add("Delay", delay)
            builder._change(len(builder._steps) - 1, next=builder._begin(branch, "Schedule"))

        return self._add("Schedule", primitives.background, [begin], is_background=True)

    def recur(self, interval: Duration, branch: Branch, *, until: Condition) -> Self:
        """Go on at once, and run the branch each time the interval has passed, until the condition holds."""
        body = primitives.recur(checked(interval, "recur"), until)

        def begin(builder: WorkflowBuilder) -> None:
            builder._add("Repeat", body, [branch], is_sequential=True)

        return self._add("Recur", primitives.background, [begin], is_background=True)

    def sub_workflow(
        self, definition_id: str, *, version: int | None = None, data: Any = None, into: Into = None
    ) -> Self:
        """Start a child workflow and wait for its end; by default of the highest version that the host knows.

        `data`: a value or a callable of the context. `into` takes the child's data. A child that is terminated fails
        the step with `SubWorkflowTerminatedError`.
        """
        return self._add("SubWorkflow", primitives.sub_workflow(definition_id, version, data, into))

    def activity(
        self, name: str, *, parameters: Any = None, into: Into = None, timeout: Duration | None = None
    ) -> Self:
        """Wait until a worker outside has done the activity (`WorkflowHost.get_pending_activity`).

        `parameters`: a value or a callable of the context. `into` takes the result. A failure fails the step with
        `ActivityFailedError`, the end of the timeout with `WaitTimeoutError`.
        """
        return self._add("Activity", primitives.activity(name, parameters, into, checked(timeout, "activity")))

    def end_workflow(self) -> Self:
        """The workflow is Complete here, and its other branches are Cancelled."""
        return self._add("EndWorkflow", primitives.end_workflow)

    def build(self) -> WorkflowDefinition:
        """The definition. Raises `ValueError` if there is no step."""
        if self._first is None:
            raise ValueError(f"definition {self._id!r} has no step")
        return WorkflowDefinition(
            id=self._id,
            version=self._version,
            description=self._description,
            on_error=self._on_error,
            steps=tuple(self._steps),
        )

    def _add(
        self,
        name: str,
        run: StepFunction,
        branches: Sequence[Branch] = (),
        *,
        compensate_with: AnyStep | None = None,
        **options: Any,
    ) -> Self:
        if options.get("on_error") is not None:
            require_behavior(options["on_error"], f"step {name!r}")
        number = self._append(Step(id=len(self._steps), name=name, run=run, **options))
        if compensate_with is not None:
            undo = self._append(Step(id=len(self._steps), name=name_of(compensate_with), run=run_of(compensate_with)))
            self._change(number, compensate_with=undo)
        self._change(number, branches=tuple(self._begin(branch, name) for branch in branches))
        if self._last is None:
            self._first = number
        else:
            self._change(self._last, next=number)
        self._last = number
        return self

    def _begin(self, branch: Branch, name: str) -> int:
        """The number of the first step of the branch."""
        if not callable(branch):
            raise ValueError(f"step {name!r}: a branch is a callable that is given a builder")
        inner = WorkflowBuilder(self._id, self._version)
        inner._steps = self._steps
        first = len(self._steps)
        branch(inner)
        if inner._first is None:
            raise ValueError(f"step {name!r}: a branch has no step")
        return first

    def _append(self, step: Step) -> int:
        self._steps.append(step)
        return step.id

    def _change(self, number: int, **fields: Any) -> None:
        self._steps[number] = replace(self._steps[number], **fields)
