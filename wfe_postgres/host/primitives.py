"""The control structures of a definition, written as steps: each is a function of the context that returns a result.

A container begins its branches with `ExecutionResult.branch` and is run again when all of them have ended. It knows by
its `persistence_data` where it was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from wfe_postgres.contract.models import WorkflowStatus
from wfe_postgres.contract.status_changes import COMPLETED_EVENT
from wfe_postgres.host.context import StepContext
from wfe_postgres.host.definitions import StepFunction
from wfe_postgres.host.errors import ActivityFailedError, SagaFailedError, SubWorkflowTerminatedError, WaitTimeoutError
from wfe_postgres.host.results import ExecutionResult, Time, Wait, seconds

Condition = Callable[[StepContext], object]
Into = str | Callable[[StepContext, Any], object] | None
"""Where the data of an event goes: a key of the workflow's data, or what is called with the context and the event."""

ACTIVITY = "wfe.activity"
"""The name of the event that an activity waits for; its key is the activity's name."""

_ACTIVE = {"children_active": True}
_CHILDREN = UUID("f0b1c8a4-6a3e-4a57-9d53-0c6a4f6f3a52")


def given(value: Any, context: StepContext) -> Any:
    """The value, or what it returns for the context if it can be called."""
    return value(context) if callable(value) else value


def if_do(condition: Condition) -> StepFunction:
    """The branch once, if the condition holds."""
    return lambda context: _once(context, condition(context))


def while_do(condition: Condition) -> StepFunction:
    """The branch as long as the condition holds."""

    def run(context: StepContext) -> ExecutionResult:
        return ExecutionResult.branch([None], _ACTIVE) if condition(context) else ExecutionResult.next()

    return run


def decide(value: Callable[[StepContext], Any], cases: list[Any], *, otherwise: bool) -> StepFunction:
    """The branch of the case that equals the value; `otherwise`: the last branch is for all other values."""

    def run(context: StepContext) -> ExecutionResult:
        if context.persistence_data:
            return ExecutionResult.next()
        found = value(context)
        index = next((number for number, case in enumerate(cases) if case == found), len(cases))
        if index == len(cases) and not otherwise:
            return ExecutionResult.next()
        return replace(ExecutionResult.branch([None], _ACTIVE), branch_indices=(index,))

    return run


def parallel(context: StepContext) -> ExecutionResult:
    """All branches at once."""
    return _once(context, True)


def for_each(items: Any) -> StepFunction:
    """The branch for each item, all of them ready at once."""

    def run(context: StepContext) -> ExecutionResult:
        found = [] if context.persistence_data else list(given(items, context))
        return ExecutionResult.branch(found, _ACTIVE) if found else ExecutionResult.next()

    return run


def for_each_in_turn(items: Any) -> StepFunction:
    """The branch for each item, one after the other. The items are those at the beginning."""

    def run(context: StepContext) -> ExecutionResult:
        before = context.persistence_data
        found = before["items"] if before else list(given(items, context))
        index = before["current_index"] + 1 if before else 0
        if index >= len(found):
            return ExecutionResult.next()
        return ExecutionResult.branch([found[index]], _ACTIVE | {"current_index": index, "items": found})

    return run


def saga(*, fails: bool) -> StepFunction:
    """The branch. When a step in it has failed for good, the executor compensates, and runs this again at the end.

    `fails`: that is then a failure of the saga itself; otherwise the workflow goes on.
    """

    def run(context: StepContext) -> ExecutionResult:
        if fails and (context.persistence_data or {}).get("failed"):
            raise SagaFailedError("a step of the saga failed, and what was completed in it has been compensated")
        return _once(context, True)

    return run


def delay(time: Time | Callable[[StepContext], Time]) -> StepFunction:
    """Go on after this time."""

    def run(context: StepContext) -> ExecutionResult:
        if context.persistence_data:
            return ExecutionResult.next()
        return ExecutionResult.sleep(given(time, context), {"slept": True})

    return run


def background(_: StepContext) -> ExecutionResult:
    """Begin the branch and go on at once."""
    return ExecutionResult(proceeds=True, items=(None,))


def recur(interval: Time | Callable[[StepContext], Time], until: Condition) -> StepFunction:
    """The branch each time the interval has passed, until the condition holds."""

    def run(context: StepContext) -> ExecutionResult:
        if not (context.persistence_data or {}).get("slept"):
            return ExecutionResult.sleep(given(interval, context), {"slept": True})
        return ExecutionResult.next() if until(context) else ExecutionResult.branch([None], _ACTIVE)

    return run


def wait_for(event_name: str, key: Any, as_of: Any, into: Into, timeout: Any, *, handles_timeout: bool) -> StepFunction:
    """Wait for the event; after the timeout begin the branch, or without one fail."""
    if not callable(key):
        Wait(event_name=event_name, event_key=key)  # raises what is wrong now, and not when a workflow comes here

    def run(context: StepContext) -> ExecutionResult:
        if context.event is not None:
            _put(context, into, context.event.event_data, context.event)
            return ExecutionResult.next()
        if context.persistence_data:
            return ExecutionResult.next()
        if context.pointer.event_name is None:
            return ExecutionResult(wait=_wait(context, event_name, key, as_of, timeout))
        if not handles_timeout:
            raise WaitTimeoutError("no event came within the timeout")
        return ExecutionResult.branch([None], _ACTIVE)

    return run


def activity(name: str, parameters: Any, into: Into, timeout: Any) -> StepFunction:
    """Wait until a worker outside has done the activity."""

    def run(context: StepContext) -> ExecutionResult:
        if context.event is not None:
            done = context.event.event_data
            if not done["succeeded"]:
                raise ActivityFailedError(str(done["result"]))
            _put(context, into, done["result"], context.event)
            return ExecutionResult.next()
        if context.pointer.event_name is not None:
            raise WaitTimeoutError("the activity was not done within the timeout")
        wait = _wait(context, ACTIVITY, name, None, timeout)
        return ExecutionResult(wait=replace(wait, subscription_data=given(parameters, context)))

    return run


def sub_workflow(id: str, version: int | None, data: Any, into: Into) -> StepFunction:
    """Create a child workflow and wait for its end."""

    def run(context: StepContext) -> ExecutionResult:
        if context.event is not None:
            ended = context.event.event_data
            if ended["status"] != WorkflowStatus.COMPLETE:
                raise SubWorkflowTerminatedError(f"the child workflow {context.event.event_key!r} is {ended['status']}")
            _put(context, into, ended["data"], context.event)
            return ExecutionResult.next()
        child = context.definitions.find(id, version).instance(
            given(data, context),
            id=str(uuid5(_CHILDREN, f"{context.workflow.id}/{context.pointer.id}")),
            root_workflow_id=context.workflow.root_workflow_id or context.workflow.id,
        )
        return ExecutionResult(wait=Wait(event_name=COMPLETED_EVENT, event_key=child.id), child=child)

    return run


def end_workflow(_: StepContext) -> ExecutionResult:
    """The workflow is complete here."""
    return ExecutionResult(proceeds=True, ends_workflow=True)


def cases_of(cases: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pairs of a value and its branch."""
    return list(cases.items() if isinstance(cases, Mapping) else cases)


def _once(context: StepContext, begins: object) -> ExecutionResult:
    if context.persistence_data or not begins:
        return ExecutionResult.next()
    return ExecutionResult.branch([None], _ACTIVE)


def _wait(context: StepContext, event_name: str, key: Any, as_of: Any, timeout: Any) -> Wait:
    since: datetime | None = given(as_of, context)
    longest = given(timeout, context)
    return Wait(
        event_name=event_name,
        event_key=given(key, context),
        as_of=since,
        timeout=None if longest is None else seconds(longest),
    )


def _put(context: StepContext, into: Into, value: Any, event: Any) -> None:
    if isinstance(into, str):
        context.data[into] = value
    elif into is not None:
        into(context, event)
