"""Activities, child workflows, events, middleware and callbacks, in memory; `using` on PostgreSQL."""

from datetime import timedelta
from typing import Any

import pytest

from tests.host.kit import World, branch, fail, note, statuses
from wfe_postgres import (
    PointerStatus,
    PostgresPersistenceProvider,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WorkflowStatus,
)
from wfe_postgres.host import (
    ExecutionResult,
    Retry,
    StepContext,
    Suspend,
    WorkflowBuilder,
    WorkflowHost,
)
from wfe_postgres.testing import InMemoryPersistenceProvider


def activity_world(**options: Any) -> tuple[World, str]:
    """A workflow that waits for its activity, and its id."""
    builder = WorkflowBuilder("w", on_error=Retry(interval=1, max_retries=1))
    builder.activity("print", parameters=lambda c: {"copies": c.data["copies"]}, into="printed", **options)
    world = World(builder.then(note("end")).build())
    return world, world.run({"copies": 2}, advance=False).id


def test_activity_is_done_by_one_worker_and_its_result_goes_into_the_data() -> None:
    world, id = activity_world()
    assert world.host.get_pending_activity("other", "me") is None
    pending = world.host.get_pending_activity("print", "me")
    assert pending is not None
    assert pending.parameters == {"copies": 2}
    assert world.host.get_pending_activity("print", "you") is None
    world.host.submit_activity_success(pending.token, ["page"])
    instance = world.go_on(id)
    assert instance.status is WorkflowStatus.COMPLETE
    assert instance.data["printed"] == ["page"]
    with pytest.raises(SubscriptionNotFoundError):
        world.host.submit_activity_success(pending.token, ["page"])


def test_released_activity_is_given_to_another_worker() -> None:
    world, id = activity_world()
    first = world.host.get_pending_activity("print", "me")
    assert first is not None
    world.host.release_activity(first.token)
    second = world.host.get_pending_activity("print", "you")
    assert second is not None
    with pytest.raises(SubscriptionTokenError):
        world.host.submit_activity_success(first.token)
    world.host.submit_activity_success(second.token)
    assert world.go_on(id).status is WorkflowStatus.COMPLETE


def test_failed_activity_is_handed_out_again_as_the_error_behavior_says() -> None:
    world, id = activity_world()
    for _ in range(2):
        pending = world.host.get_pending_activity("print", "me")
        assert pending is not None
        world.host.submit_activity_failure(pending.token, "no paper")
        instance = world.go_on(id)
    assert instance.status is WorkflowStatus.SUSPENDED
    assert [it.message.splitlines()[0] for it in world.provider.get_execution_errors()] == [
        "ActivityFailedError: no paper"
    ] * 2


def test_activity_that_nobody_does_fails_after_its_timeout() -> None:
    world, id = activity_world(timeout=timedelta(minutes=1))
    assert world.go_on(id).status is WorkflowStatus.SUSPENDED
    assert world.host.get_pending_activity("print", "me") is None


def child_world(child: WorkflowBuilder, **options: Any) -> World:
    """A parent that starts this child."""
    parent = WorkflowBuilder("parent", on_error=Suspend())
    parent.sub_workflow("child", data=lambda c: {"log": [c.data["seed"]]}, into="child", **options).then(note("end"))
    return World(parent.build(), child.build())


def test_parent_waits_for_its_child_and_takes_its_data() -> None:
    world = child_world(WorkflowBuilder("child").then(note("a")).delay(60))
    parent = world.run({"seed": "s"})
    assert (parent.status, parent.data["child"]) == (WorkflowStatus.COMPLETE, {"log": ["s", "a"]})
    child = world.provider.get_workflow_instance(parent.execution_pointers[0].event_key or "")
    assert child.root_workflow_id == parent.id


def test_terminated_child_fails_the_step_of_its_parent() -> None:
    world = child_world(WorkflowBuilder("child").delay(3600))
    parent = world.run({"seed": "s"}, advance=False)
    assert world.host.terminate_workflow(parent.execution_pointers[0].event_key or "")
    assert world.go_on(parent.id).status is WorkflowStatus.SUSPENDED


def test_child_of_an_unknown_definition_fails_the_step() -> None:
    world = child_world(WorkflowBuilder("other").then(note("a")))
    assert world.run({"seed": "s"}).status is WorkflowStatus.SUSPENDED
    [error] = world.provider.get_execution_errors()
    assert "the host knows no definition 'child'" in error.message


def test_two_waits_for_one_key_need_two_events_in_a_loop_too() -> None:
    loop = WorkflowBuilder("w").for_each(
        [1, 2], lambda b: b.wait_for("e", key="k", into=lambda c, e: c.data["log"].append(e.event_data)), parallel=False
    )
    world = World(loop.wait_for("e", key="k", into="last").build())
    instance = world.run()
    for number in range(3):
        assert instance.status is WorkflowStatus.RUNNABLE
        world.host.publish_event("e", "k", number)
        world.clock.advance(1)
        instance = world.go_on(instance.id)
    assert (instance.status, instance.data) == (WorkflowStatus.COMPLETE, {"log": [0, 1], "last": 2})


def test_event_that_is_published_twice_counts_once() -> None:
    world = World(WorkflowBuilder("w").wait_for("e", key="k").wait_for("e", key="k").build())
    instance = world.run()
    for _ in range(2):
        assert world.host.publish_event("e", "k", event_id="webhook") == "webhook"
        instance = world.go_on(instance.id)
    assert instance.status is WorkflowStatus.RUNNABLE


@pytest.mark.parametrize("handled", [True, False])
def test_wait_ends_at_its_timeout(handled: bool) -> None:
    late = branch(note("late")) if handled else None
    builder = WorkflowBuilder("w", on_error=Suspend()).wait_for("e", key="k", timeout=60, on_timeout=late)
    world = World(builder.then(note("end")).build())
    instance = world.run()
    world.host.publish_event("e", "k")
    instance = world.go_on(instance.id)
    if handled:
        assert (instance.status, instance.data["log"]) == (WorkflowStatus.COMPLETE, ["late", "end"])
    else:
        assert instance.status is WorkflowStatus.SUSPENDED
        assert statuses(instance) == {"WaitFor": PointerStatus.FAILED}
        [error] = world.provider.get_execution_errors()
        assert error.message.startswith("WaitTimeoutError: ")


def test_middleware_is_called_around_each_step_the_first_one_outermost() -> None:
    def outer(context: StepContext, call_next: Any) -> ExecutionResult | None:
        context.data["log"].append("outer")
        result: ExecutionResult | None = call_next(context)
        return result

    def inner(context: StepContext, call_next: Any) -> ExecutionResult | None:
        context.data["log"].append("inner")
        result: ExecutionResult | None = call_next(context)
        context.data["log"].append("after")
        return result

    world = World(WorkflowBuilder("w").then(note("a")).build(), middleware=[outer, inner])
    assert world.run().data["log"] == ["outer", "inner", "a", "after"]


def test_callbacks_are_told_what_is_stored() -> None:
    world = World(WorkflowBuilder("w", on_error=Suspend()).then(note("a")).then(fail(1), name="b").build())
    told: list[tuple[str, str | None]] = []
    world.host.on(lambda event: told.append((event.type, event.step_name)))
    instance = world.run()
    world.host.resume_workflow(instance.id, skip_failed=True)
    world.go_on(instance.id)
    assert told == [
        ("Started", None),
        ("StepStarted", "a"),
        ("StepCompleted", "a"),
        ("StepStarted", "b"),
        ("Error", "b"),
        ("Suspended", None),
        ("Resumed", None),
        ("Completed", None),
    ]


def test_clock_that_cannot_jump_is_refused() -> None:
    with pytest.raises(TypeError, match="ManualClock"):
        WorkflowHost(InMemoryPersistenceProvider()).run_until_idle(advance=True)


def test_provider_without_transactions_of_the_application_is_refused() -> None:
    with pytest.raises(TypeError, match="InMemoryPersistenceProvider cannot work"):
        WorkflowHost(InMemoryPersistenceProvider()).using(object())


def test_client_in_a_transaction_takes_part_in_it(provider: PostgresPersistenceProvider) -> None:
    host = WorkflowHost(provider, [WorkflowBuilder("w").then(note("a")).build()])
    with provider.engine.begin() as connection:
        first = host.using(connection).start_workflow("w", {"log": []})
    with provider.engine.connect() as connection:
        host.using(connection).start_workflow("w", {"log": []})
        connection.rollback()
    host.run_until_idle()
    [found] = provider.find_workflows(definition_id="w").items
    assert (found.id, found.status) == (first, WorkflowStatus.COMPLETE)
