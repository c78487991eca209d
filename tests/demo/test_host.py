"""The host: what each answer of a step leads to, on both providers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from wfe_postgres import (
    ConcurrencyError,
    EventSubscription,
    ExecutionPointer,
    PersistenceProvider,
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    SubscriptionNotFoundError,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.demo.definitions import Branch, Context, Definition, Delay, Next, Outcome, WaitFor
from wfe_postgres.demo.host import Host
from wfe_postgres.testing import InMemoryPersistenceProvider

TIMEOUT = 10.0


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> PersistenceProvider:
    """Each test runs on both."""
    if request.param == "memory":
        return InMemoryPersistenceProvider()
    provider: PersistenceProvider = request.getfixturevalue("provider")
    return provider


def note(context: Context, effect: str) -> None:
    """Leave a trace in the workflow's data."""
    context.data.setdefault("done", []).append(effect)


def first(context: Context) -> Outcome:
    """A step that only goes on."""
    note(context, "first")
    return Next("from first")


def last(context: Context) -> Outcome:
    """A step that only goes on."""
    note(context, "last")
    return Next()


def branch(context: Context) -> Outcome:
    """A branch of one step."""
    note(context, f"branch {context.item}")
    return Next()


def wait(context: Context) -> Outcome:
    """Waits for the event `bell` with the key that the workflow's data names."""
    if not context.pointer.event_published:
        return WaitFor("bell", context.data["key"])
    note(context, f"heard {context.pointer.event_data}")
    return Next()


def nap(context: Context) -> Outcome:
    """Sleeps for a moment."""
    note(context, "nap")
    return Delay(0.05)


def define(*steps: Callable[[Context], Outcome]) -> Definition:
    """A workflow of these steps, with `branch` to fan out to."""
    return Definition("test", 1, steps, (branch,))


def host_of(store: PersistenceProvider, definition: Definition, **settings: Any) -> Host:
    """A host that knows the one definition."""
    return Host(store, [definition], **settings)


def run_until(host: Host, condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the workflow does not get there"
        host.poll()


def finish(host: Host, id: str) -> WorkflowInstance:
    """Poll until the workflow is complete; return it."""
    run_until(host, lambda: host.provider.get_workflow_instance(id).status == WorkflowStatus.COMPLETE)
    return host.provider.get_workflow_instance(id)


def only_pointer(store: PersistenceProvider, id: str) -> ExecutionPointer:
    """The one pointer that the workflow has."""
    [pointer] = store.get_workflow_instance(id).execution_pointers
    return pointer


def test_steps_run_one_after_the_other(store: PersistenceProvider) -> None:
    definition = define(first, last)
    host = host_of(store, definition)
    id = host.start(definition, {"key": "a"}, reference="r-1")
    assert host.poll() == 1
    workflow = store.get_workflow_instance(id)
    assert workflow.data == {"key": "a", "done": ["first", "last"]}
    assert (workflow.status, workflow.next_execution) == (WorkflowStatus.COMPLETE, None)
    assert workflow.complete_time is not None
    assert workflow.reference == "r-1"
    one, two = workflow.execution_pointers
    assert (one.step_name, one.outcome, two.step_name) == ("first", "from first", "last")
    assert two.predecessor_id == one.id
    for pointer in workflow.execution_pointers:
        assert (pointer.status, pointer.active) == (PointerStatus.COMPLETE, False)
        assert pointer.start_time is not None
        assert pointer.end_time is not None
    assert host.poll() == 0


def test_a_failed_step_is_run_again_without_what_it_changed(store: PersistenceProvider) -> None:
    def unsteady(context: Context) -> Outcome:
        note(context, f"try {context.pointer.retry_count}")
        if context.pointer.retry_count < 2:
            raise RuntimeError(f"not yet: {context.pointer.retry_count}")
        return Next()

    definition = define(unsteady)
    host = host_of(store, definition, retry_delay=0.02)
    id = host.start(definition, {})
    assert finish(host, id).data == {"done": ["try 2"]}
    assert only_pointer(store, id).retry_count == 2
    if isinstance(store, PostgresPersistenceProvider):
        errors = store.get_execution_errors(id)
        assert [error.message for error in errors] == ["RuntimeError: not yet: 1", "RuntimeError: not yet: 0"]
        assert {error.execution_pointer_id for error in errors} == {only_pointer(store, id).id}


def test_retries_come_later_and_later_until_the_workflow_is_suspended(store: PersistenceProvider) -> None:
    def broken(context: Context) -> Outcome:
        raise RuntimeError("always")

    definition = define(broken)
    host = host_of(store, definition, retry_delay=60.0, max_retries=2)
    id = host.start(definition, {})
    for seconds in (60, 120):
        begin = datetime.now(UTC)
        assert host.poll() == 1
        host.poll()
        workflow = store.get_workflow_instance(id)
        [pointer] = workflow.execution_pointers
        assert pointer.status == PointerStatus.PENDING
        assert pointer.sleep_until is not None
        assert timedelta(seconds=seconds) <= pointer.sleep_until - begin < timedelta(seconds=seconds + 30)
        assert workflow.next_execution == int(pointer.sleep_until.timestamp() * 1000)
        assert host.poll() == 0
        pointer.sleep_until, workflow.next_execution = begin, 0
        store.persist_workflow(workflow)
    assert host.poll() == 1
    workflow = store.get_workflow_instance(id)
    assert (workflow.status, workflow.next_execution) == (WorkflowStatus.SUSPENDED, None)
    assert only_pointer(store, id).status == PointerStatus.FAILED
    assert host.poll() == 0


def test_what_cannot_be_stored_is_a_failure_of_its_step(store: PersistenceProvider) -> None:
    def careless(context: Context) -> Outcome:
        if context.pointer.retry_count == 0:
            context.data["price"] = float("nan")
        return Next()

    definition = define(careless)
    host = host_of(store, definition, retry_delay=0.0)
    id = host.start(definition, {})
    assert finish(host, id).data == {}
    assert only_pointer(store, id).retry_count == 1


def test_a_fan_out_waits_for_all_its_branches(store: PersistenceProvider) -> None:
    def fan_out(context: Context) -> Outcome:
        return Branch(branch, context.data["items"])

    definition = define(fan_out, last)
    host = host_of(store, definition)
    id = host.start(definition, {"items": ["a", {"b": 1}, None]})
    workflow = finish(host, id)
    assert workflow.data["done"] == ["branch a", "branch {'b': 1}", "branch None", "last"]
    parent, *children, end = workflow.execution_pointers
    assert parent.children == [child.id for child in children]
    assert [child.context_item for child in children] == ["a", {"b": 1}, None]
    assert all(child.scope == [parent.id] and child.predecessor_id == parent.id for child in children)
    assert (end.step_name, end.scope, end.predecessor_id) == ("last", [], parent.id)


def test_a_fan_out_over_nothing_goes_on(store: PersistenceProvider) -> None:
    definition = define(lambda context: Branch(branch, []), last)
    host = host_of(store, definition)
    assert finish(host, host.start(definition, {})).data == {"done": ["last"]}


def test_branches_can_have_branches(store: PersistenceProvider) -> None:
    def inner(context: Context) -> Outcome:
        return Branch(branch, [f"{context.item}{n}" for n in (1, 2)])

    def outer(context: Context) -> Outcome:
        return Branch(inner, ["a", "b"])

    definition = Definition("nested", 1, (outer, last), (inner, branch))
    host = host_of(store, definition)
    workflow = finish(host, host.start(definition, {}))
    assert sorted(workflow.data["done"][:-1]) == ["branch a1", "branch a2", "branch b1", "branch b2"]
    assert workflow.data["done"][-1] == "last"
    assert sorted(len(pointer.scope) for pointer in workflow.execution_pointers) == [0, 0, 1, 1, 2, 2, 2, 2]


def test_an_event_wakes_whoever_waits_for_it(store: PersistenceProvider) -> None:
    definition = define(wait, last)
    host = host_of(store, definition)
    ids = [host.start(definition, {"key": key}) for key in ("a", "a", "b")]
    host.poll()
    for id in ids:
        workflow = store.get_workflow_instance(id)
        assert workflow.next_execution is None
        pointer = only_pointer(store, id)
        assert (pointer.status, pointer.event_name) == (PointerStatus.WAITING_FOR_EVENT, "bell")
    assert host.poll() == 0
    event_id = host.publish("bell", "a", "ding")
    for id in ids[:2]:
        assert finish(host, id).data["done"] == ["heard ding", "last"]
    assert only_pointer(store, ids[2]).status == PointerStatus.WAITING_FOR_EVENT
    assert store.get_event(event_id).is_processed
    assert store.get_subscriptions("bell", "a", datetime.now(UTC)) == []


def test_an_event_that_came_first_is_found(store: PersistenceProvider) -> None:
    definition = define(wait)
    host = host_of(store, definition)
    event_id = host.publish("bell", "a", "early")
    host.poll()
    assert store.get_event(event_id).is_processed
    id = host.start(definition, {"key": "a"})
    assert finish(host, id).data["done"] == ["heard early"]
    assert store.get_subscriptions("bell", "a", datetime.now(UTC)) == []


def test_an_event_from_before_the_wait_can_be_ruled_out(store: PersistenceProvider) -> None:
    def wait_for_news(context: Context) -> Outcome:
        if not context.pointer.event_published:
            return WaitFor("bell", "a", since=datetime.now(UTC))
        note(context, context.pointer.event_data)
        return Next()

    definition = define(wait_for_news)
    host = host_of(store, definition)
    host.publish("bell", "a", "old")
    id = host.start(definition, {})
    host.poll()
    host.poll()
    assert only_pointer(store, id).status == PointerStatus.WAITING_FOR_EVENT
    host.publish("bell", "a", "new")
    assert finish(host, id).data["done"] == ["new"]


def test_an_event_waits_for_a_workflow_that_is_running_a_step(store: PersistenceProvider) -> None:
    meanwhile: list[tuple[bool, bool]] = []

    def wait_or_work(context: Context) -> Outcome:
        if context.item == "wait":
            return wait(context)
        event_id = other.publish("bell", "a", "ding")
        meanwhile.append((other.deliver(event_id), store.get_event(event_id).is_processed))
        note(context, "worked")
        return Next()

    def fan_out(context: Context) -> Outcome:
        return Branch(wait_or_work, ["wait", "work"])

    definition = Definition("test", 1, (fan_out,), (wait_or_work,))
    host, other = host_of(store, definition), host_of(store, definition)
    id = host.start(definition, {"key": "a"})
    assert finish(host, id).data["done"] == ["worked", "heard ding"]
    assert meanwhile == [(False, False)]


def test_an_alarm_ends_a_delay(store: PersistenceProvider) -> None:
    definition = define(nap, last)
    host = host_of(store, definition)
    id = host.start(definition, {})
    host.poll()
    workflow = store.get_workflow_instance(id)
    pointer = only_pointer(store, id)
    assert (workflow.next_execution, pointer.status) == (None, PointerStatus.SLEEPING)
    finished = finish(host, id)
    assert finished.data["done"] == ["nap", "last"]
    assert pointer.sleep_until is not None
    assert finished.execution_pointers[1].start_time is not None
    assert finished.execution_pointers[1].start_time >= pointer.sleep_until - timedelta(milliseconds=1)
    assert store.process_commands(datetime.now(UTC) + timedelta(days=1), lambda command: None) == 0


def test_each_sleeper_of_a_workflow_is_woken(store: PersistenceProvider) -> None:
    def nap_for(context: Context) -> Outcome:
        note(context, str(context.item))
        return Delay(context.item)

    definition = Definition("test", 1, (lambda context: Branch(nap_for, [0.1, 0.02]), last), (nap_for,))
    host = host_of(store, definition)
    workflow = finish(host, host.start(definition, {}))
    assert workflow.data["done"] == ["0.1", "0.02", "last"]


def test_an_alarm_that_is_too_early_or_for_nobody_does_no_harm(store: PersistenceProvider) -> None:
    definition = define(lambda context: Delay(3600.0), last)
    host = host_of(store, definition)
    id = host.start(definition, {})
    host.poll()
    for workflow_id in (id, "nobody"):
        store.schedule_command(ScheduledCommand.process_workflow(workflow_id, 0))
    host.poll()
    assert only_pointer(store, id).status == PointerStatus.SLEEPING
    left: list[ScheduledCommand] = []
    store.process_commands(datetime.now(UTC) + timedelta(days=1), left.append)
    assert [command.data for command in left] == [id]


def test_an_alarm_for_a_workflow_that_is_running_a_step_comes_again(store: PersistenceProvider) -> None:
    def work(context: Context) -> Outcome:
        store.schedule_command(ScheduledCommand.process_workflow(context.workflow.id, 0))
        other.poll()
        return Next()

    definition = define(work)
    host, other = host_of(store, definition, lease=60.0), host_of(store, definition)
    id = host.start(definition, {})
    assert finish(host, id).status == WorkflowStatus.COMPLETE
    left: list[ScheduledCommand] = []
    store.process_commands(datetime.now(UTC) + timedelta(seconds=30), left.append)
    assert left == []
    store.process_commands(datetime.now(UTC) + timedelta(seconds=61), left.append)
    assert [command.data for command in left] == [id]


def test_a_command_can_deliver_an_event(store: PersistenceProvider) -> None:
    definition = define(wait)
    host = host_of(store, definition)
    id = host.start(definition, {"key": "a"})
    host.poll()
    event_id = host.publish("bell", "a", "ding")
    store.mark_event_processed(event_id)
    store.schedule_command(ScheduledCommand.process_event(event_id, 0))
    assert finish(host, id).data["done"] == ["heard ding"]


def test_other_definitions_are_left_alone(store: PersistenceProvider) -> None:
    stranger = Definition("stranger", 1, (first,))
    next_version = Definition("test", 2, (first,))
    host = host_of(store, define(first))
    before = [store.get_workflow_instance(host.start(each, {})) for each in (stranger, next_version)]
    assert host.poll() == 0
    assert [store.get_workflow_instance(workflow.id) for workflow in before] == before


def test_run_polls_until_it_is_stopped(store: PersistenceProvider) -> None:
    stop = threading.Event()

    def stopping(context: Context) -> Outcome:
        stop.set()
        return Next()

    definition = define(first, stopping)
    host = host_of(store, definition)
    id = host.start(definition, {})
    host.run(stop)
    assert store.get_workflow_instance(id).status == WorkflowStatus.COMPLETE


def test_nobody_else_runs_a_step_that_is_being_run(store: PersistenceProvider) -> None:
    polled: list[int] = []

    def work(context: Context) -> Outcome:
        polled.append(other.poll())
        note(context, "worked")
        return Next()

    definition = define(work)
    host, other = host_of(store, definition), host_of(store, definition)
    id = host.start(definition, {})
    assert finish(host, id).data["done"] == ["worked"]
    assert polled == [0]


def test_of_two_hosts_that_saw_it_due_one_runs_it(store: PersistenceProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    both_have_it = threading.Barrier(2, timeout=TIMEOUT)
    load = store.get_workflow_instance

    def loaded_by_both(id: str) -> WorkflowInstance:
        workflow = load(id)
        both_have_it.wait()
        return workflow

    def work(context: Context) -> Outcome:
        runs.append(context.workflow.id)
        return Next()

    definition = define(work)
    id = host_of(store, definition).start(definition, {})
    results: list[object] = []

    def advance() -> None:
        try:
            results.append(host_of(store, definition).advance(id))
        except ConcurrencyError as error:
            results.append(type(error))

    with monkeypatch.context() as patch:
        patch.setattr(store, "get_workflow_instance", loaded_by_both)
        threads = [threading.Thread(target=advance) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
    assert sorted(results, key=str) == [ConcurrencyError, True]
    assert runs == [id]
    assert store.get_workflow_instance(id).status == WorkflowStatus.COMPLETE


class StepRows(Host):
    """A host whose steps write rows of their own."""

    @contextmanager
    def transaction(
        self, workflow: WorkflowInstance, pointer: ExecutionPointer
    ) -> Iterator[tuple[PersistenceProvider, Any]]:
        """One transaction for the step's rows and the workflow's."""
        assert isinstance(self.provider, PostgresPersistenceProvider)
        with self.provider.engine.begin() as connection:
            yield self.provider.using(connection), connection


def test_a_steps_own_rows_are_committed_with_the_workflow_or_not_at_all(
    provider: PostgresPersistenceProvider,
) -> None:
    with provider.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (try int)")

    def writes(context: Context) -> Outcome:
        tries = context.pointer.retry_count
        context.resources.exec_driver_sql(f"INSERT INTO rows VALUES ({tries})")
        if tries == 0:
            raise RuntimeError("after the row was written")
        if tries == 1:
            context.data["price"] = float("inf")
        return Next()

    def is_overtaken(context: Context) -> Outcome:
        context.resources.exec_driver_sql("INSERT INTO rows VALUES (100)")
        if not overtaken.is_set():
            overtaken.set()
            stored = provider.get_workflow_instance(context.workflow.id)
            stored.next_execution = 0
            provider.persist_workflow(stored)
        return Next()

    overtaken = threading.Event()
    definition = define(writes, is_overtaken)
    host = StepRows(provider, [definition], retry_delay=0.0)
    finish(host, host.start(definition, {}))
    with provider.engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT try FROM rows ORDER BY 1").scalars().all() == [2, 100]
    assert overtaken.is_set()


def test_an_event_reaches_the_waiter_of_another_engine(store: PersistenceProvider) -> None:
    pointer = ExecutionPointer(0, status=PointerStatus.WAITING_FOR_EVENT, active=False)
    workflow = WorkflowInstance("stranger", 1, execution_pointers=[pointer], next_execution=None)
    store.create_new_workflow(workflow)
    store.create_event_subscription(EventSubscription(workflow.id, 0, pointer.id, "bell", "a"))
    host = host_of(store, define(first))
    host.publish("bell", "a", "ding")
    host.poll()
    [stored] = store.get_workflow_instance(workflow.id).execution_pointers
    assert (stored.status, stored.event_published, stored.event_data) == (PointerStatus.PENDING, True, "ding")
    assert store.get_runnable_instances(datetime.now(UTC)) == [workflow.id]


def test_an_event_for_a_wait_that_is_over_is_not_taken_for_the_next_one(store: PersistenceProvider) -> None:
    def wait_twice(context: Context) -> Outcome:
        heard = context.data.setdefault("heard", [])
        if context.pointer.event_published:
            heard.append(context.pointer.event_data)
        return WaitFor("bell", "a", since=datetime.now(UTC)) if len(heard) < 2 else Next()

    definition = define(wait_twice)
    host = host_of(store, definition)
    id = host.start(definition, {})
    host.poll()
    [old] = store.get_subscriptions("bell", "a", datetime.now(UTC))
    host.publish("bell", "a", "first")
    host.poll()
    assert store.get_workflow_instance(id).data["heard"] == ["first"]
    [new] = store.get_subscriptions("bell", "a", datetime.now(UTC))
    store.terminate_subscription(new.id)
    store.create_event_subscription(old)
    host.publish("bell", "a", "for the old one")
    host.poll()
    assert store.get_workflow_instance(id).data["heard"] == ["first"]
    store.create_event_subscription(new)
    host.publish("bell", "a", "second")
    assert finish(host, id).data["heard"] == ["first", "second"]


def test_a_subscription_that_is_gone_is_no_error(store: PersistenceProvider) -> None:
    definition = define(wait)
    host = host_of(store, definition)
    id = host.start(definition, {"key": "a"})
    host.poll()
    [subscription] = store.get_subscriptions("bell", "a", datetime.now(UTC))
    store.terminate_subscription(subscription.id)
    host.publish("bell", "a")
    assert host.poll() == 1
    with pytest.raises(SubscriptionNotFoundError):
        store.get_subscription(subscription.id)
    assert only_pointer(store, id).status == PointerStatus.WAITING_FOR_EVENT
