"""An event is handed to every pointer that waits for it, once, whenever it was published."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from wfe_postgres.contract.models import EventSubscription, WorkflowStatus
from wfe_postgres.host import StepContext, WaitTimeoutError, WorkflowBuilder
from wfe_postgres.testing.conformance.hosts.support import HostSuite, Watched, World


def _wait(id: str = "waits", key: str = "1") -> WorkflowBuilder:
    return WorkflowBuilder(id).wait_for("paid", key=key, into="payment")


def _two_waits() -> WorkflowBuilder:
    return WorkflowBuilder("two").wait_for("paid", key="1", into="first").wait_for("paid", key="1", into="second")


class HostEventConformance(HostSuite):
    """Waits and events."""

    def test_an_event_wakes_everybody_who_waits_for_its_name_and_key(self, world: World) -> None:
        host = world.host(_wait(), _wait("other key", "2"))
        ids = [host.start_workflow("waits") for _ in range(3)]
        other = host.start_workflow("other key")
        host.run_until_idle()
        host.publish_event("refunded", "1")
        host.publish_event("paid", "1", {"amount": 10})
        host.run_until_idle()
        assert [world.stored(id).data for id in ids] == [{"payment": {"amount": 10}}] * 3
        assert all(world.status(id) is WorkflowStatus.COMPLETE for id in ids)
        assert world.status(other) is WorkflowStatus.RUNNABLE
        assert world.provider.get_subscriptions("paid", "1", world.clock()) == []

    def test_a_step_is_given_the_whole_event(self, world: World) -> None:
        seen: list[Any] = []
        builder = WorkflowBuilder("waits").wait_for("paid", key="1", into=lambda _, event: seen.append(event))
        (host := world.host(builder)).start_workflow("waits")
        host.run_until_idle()
        id = host.publish_event("paid", "1", [1])
        published = world.provider.get_event(id)
        host.run_until_idle()
        [event] = seen
        assert (event.id, event.event_name, event.event_key, event.event_data) == (id, "paid", "1", [1])
        assert event.event_time == published.event_time

    def test_an_event_before_the_wait_is_found_and_one_before_the_workflow_is_not(self, world: World) -> None:
        host = world.host(_wait())
        host.publish_event("paid", "1", "too early")
        host.run_until_idle()
        world.clock.advance(1)
        id = host.start_workflow("waits")
        waiting = host.start_workflow("waits")
        world.clock.advance(1)
        host.publish_event("paid", "1", "early")
        host.run_until_idle()
        assert [world.stored(it).data for it in (id, waiting)] == [{"payment": "early"}] * 2

    def test_an_event_that_was_processed_before_the_wait_is_found(self, world: World) -> None:
        builder = WorkflowBuilder("late").delay(10).wait_for("paid", key="1", into="payment")
        id = (host := world.host(builder)).start_workflow("late")
        host.publish_event("paid", "1", "early")
        host.run_until_idle()
        assert world.provider.get_runnable_events(world.clock()) == []
        host.run_until_idle(advance=True)
        assert world.stored(id).data == {"payment": "early"}

    def test_an_event_published_twice_under_one_id_is_one_event(self, world: World) -> None:
        id = (host := world.host(_two_waits())).start_workflow("two")
        for _ in range(3):
            assert host.publish_event("paid", "1", "once", event_id=f"webhook of {id}") == f"webhook of {id}"
            host.run_until_idle()
        assert world.stored(id).data == {"first": "once"}
        assert world.status(id) is WorkflowStatus.RUNNABLE

    @pytest.mark.parametrize("rests", [False, True])
    def test_two_waits_need_two_events_and_get_them_in_their_order(self, world: World, rests: bool) -> None:
        id = (host := world.host(_two_waits())).start_workflow("two")
        for data in ("one", "two"):
            world.clock.advance(1)
            host.publish_event("paid", "1", data)
            if rests:
                host.run_until_idle()
                assert world.stored(id).data["first"] == "one"
                assert ("second" in world.stored(id).data) is (data == "two")
        host.run_until_idle()
        assert world.stored(id).data == {"first": "one", "second": "two"}

    def test_each_turn_of_a_loop_needs_an_event_of_its_own(self, world: World) -> None:
        def keep(context: StepContext, event: Any) -> None:
            context.data["had"] = [*context.data.get("had", []), event.event_data]

        builder = WorkflowBuilder("loop").while_do(
            lambda context: len(context.data.get("had", [])) < 3, lambda b: b.wait_for("paid", key="1", into=keep)
        )
        id = (host := world.host(builder)).start_workflow("loop")
        for number in range(3):
            assert world.status(id) is WorkflowStatus.RUNNABLE
            world.clock.advance(1)
            host.publish_event("paid", "1", number)
            host.run_until_idle()
        assert (world.status(id), world.stored(id).data) == (WorkflowStatus.COMPLETE, {"had": [0, 1, 2]})

    def test_parallel_siblings_get_the_same_event(self, world: World) -> None:
        def waits(into: str) -> Callable[[WorkflowBuilder], object]:
            return lambda b: b.wait_for("paid", key="1", into=into)

        builder = WorkflowBuilder("siblings").parallel(waits("a"), waits("b"))
        id = (host := world.host(builder)).start_workflow("siblings")
        host.run_until_idle()
        host.publish_event("paid", "1", "both")
        host.run_until_idle()
        assert world.stored(id).data == {"a": "both", "b": "both"}

    def test_a_waiter_that_is_gone_stops_no_other(self, world: World) -> None:
        id = (host := world.host(_wait())).start_workflow("waits")
        host.run_until_idle()
        for gone in ("gone", id):  # a workflow that does not exist, and a pointer that does not
            since = world.clock() - timedelta(days=1)
            world.provider.create_event_subscription(EventSubscription(gone, 0, "gone", "paid", "1", since))
        host.publish_event("paid", "1", "paid")
        host.run_until_idle()
        assert world.status(id) is WorkflowStatus.COMPLETE
        assert world.provider.get_subscriptions("paid", "1", world.clock()) == []

    def test_an_event_that_comes_while_another_step_of_the_workflow_runs_is_given_afterwards(
        self, world: World
    ) -> None:
        def publish(_: StepContext) -> None:
            world.clock.advance(1)
            other = world.host(builder)
            other.publish_event("paid", "1", "during the step")
            other.run_until_idle()
            world.notes.append("published")

        builder = WorkflowBuilder("both").parallel(
            lambda b: b.wait_for("paid", key="1", into="payment"), lambda b: b.then(publish)
        )
        id = (host := world.host(builder)).start_workflow("both")
        host.run_until_idle(advance=True)
        assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["published"])
        assert world.stored(id).data == {"payment": "during the step"}

    def test_a_host_that_dies_after_a_wait_began_leaves_it_its_earliest_event(self, world: World) -> None:
        watched = Watched(world.provider)
        builder = _two_waits()
        host = world.host(builder, provider=watched)
        id = host.start_workflow("two")
        event = host.publish_event("paid", "1", "one")
        world.provider.mark_event_processed(event)

        def die(name: str) -> None:
            if name == "persist_workflow_with_subscriptions":
                raise KeyboardInterrupt

        watched.after = die
        with pytest.raises(KeyboardInterrupt):
            host.run_until_idle()
        world.clock.advance(1)
        survivor = world.host(builder)
        survivor.publish_event("paid", "1", "two")
        survivor.run_until_idle(advance=True)
        assert world.stored(id).data == {"first": "one", "second": "two"}

    def test_a_suspended_workflow_gets_its_event_when_it_is_resumed(self, world: World) -> None:
        id = (host := world.host(_wait())).start_workflow("waits")
        host.run_until_idle()
        host.suspend_workflow(id)
        host.publish_event("paid", "1", "meanwhile")
        host.run_until_idle(advance=True)
        assert world.status(id) is WorkflowStatus.SUSPENDED
        host.resume_workflow(id)
        host.run_until_idle(advance=True)
        assert (world.status(id), world.stored(id).data) == (WorkflowStatus.COMPLETE, {"payment": "meanwhile"})

    @pytest.mark.parametrize("handled", [False, True])
    def test_a_wait_ends_with_its_timeout_and_takes_no_later_event(self, world: World, handled: bool) -> None:
        on_timeout = (lambda b: b.then(world.note("too late"))) if handled else None
        builder = WorkflowBuilder("waits").wait_for("paid", key="1", into="x", timeout=10, on_timeout=on_timeout)
        id = (host := world.host(builder)).start_workflow("waits")
        host.run_until_idle()
        world.clock.advance(11)
        host.run_until_idle()
        assert world.provider.get_subscriptions("paid", "1", world.clock()) == []
        if handled:
            assert (world.status(id), world.notes) == (WorkflowStatus.COMPLETE, ["too late"])
            assert world.stored(id).data == {}
        else:
            assert any(WaitTimeoutError.__name__ in it for it in world.errors(id))
            assert world.status(id) is WorkflowStatus.RUNNABLE  # it is retried
