"""Every method call of the provider, with its preparation and the number of statements that it executes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from wfe_postgres import ExecutionError, PostgresRepositories, WorkflowInstance, WorkflowStatus
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    pointer,
    subscription,
    workflow,
)

Provider = PostgresRepositories
Call = Callable[[], object]
Prepare = Callable[[Provider], Call]
"""Stores what the call needs, and returns the call."""


@dataclass(frozen=True)
class Counted:
    """A call, and the number of statements that it executes, without BEGIN and COMMIT."""

    prepare: Prepare
    statements: int = 1


def sized(count: int) -> WorkflowInstance:
    """A workflow with `count` pointers."""
    return workflow(*(pointer(f"pointer-{index}") for index in range(count)))


def loaded(provider: Provider, pointers: int) -> WorkflowInstance:
    """A stored workflow with `pointers` pointers, as loaded."""
    return created(provider, sized(pointers))


def save_of(pointers: int, *, changed: int) -> Prepare:
    """A save of a loaded workflow with `changed` changed pointers, one removed and one added pointer."""

    def prepare(provider: Provider) -> Call:
        instance = loaded(provider, pointers)
        for it in instance.execution_pointers[:changed]:
            it.outcome = {"changed": True}
        instance.execution_pointers[-1] = pointer("another")
        return partial(provider.persist_workflow, instance)

    return prepare


def _unconditional(provider: Provider) -> Call:
    return partial(provider.persist_workflow, replace(loaded(provider, 10), revision=None))


def _of_a_copy(provider: Provider) -> Call:
    return partial(provider.persist_workflow, replace(loaded(provider, 10)))


def _with_subscriptions(provider: Provider) -> Call:
    instance = loaded(provider, 10)
    instance.data = {"waits": True}
    return partial(provider.persist_workflow_with_subscriptions, instance, [subscription(), subscription()])


def _without_subscriptions(provider: Provider) -> Call:
    return partial(provider.persist_workflow_with_subscriptions, loaded(provider, 10), [])


def _get_workflow(provider: Provider) -> Call:
    return partial(provider.get_workflow_instance, loaded(provider, 100).id)


def _get_by_name(provider: Provider) -> Call:
    return partial(provider.get_workflow_instance_by_name, loaded(provider, 10).name)


def _get_fifty(provider: Provider) -> Call:
    ids = [provider.create_new_workflow(sized(3)) for _ in range(50)]

    def get() -> None:
        assert len(provider.get_workflow_instances(ids)) == 50

    return get


def _on_event(method: Callable[[Provider, str], object]) -> Prepare:
    return lambda provider: partial(method, provider, provider.create_event(event()))


def _on_subscription(method: Callable[[Provider, str], object], token: str | None = None) -> Prepare:
    def prepare(provider: Provider) -> Call:
        waiting = subscription(external_token=token, external_worker_id=token)
        return partial(method, provider, provider.create_event_subscription(waiting))

    return prepare


def _set_token(provider: Provider, id: str) -> None:
    assert provider.set_subscription_token(id, "mine", "worker", from_now(60))


def _set_held_token(provider: Provider, id: str) -> None:
    assert not provider.set_subscription_token(id, "mine", "worker", from_now(60))


def _clear_token(provider: Provider, id: str) -> None:
    provider.clear_subscription_token(id, "mine")


def _persist_errors(provider: Provider) -> Call:
    return partial(provider.persist_errors, [ExecutionError("w", f"p{index}", "failed") for index in range(100)])


def _reschedule(provider: Provider) -> Call:
    provider.schedule_command(command("again"))
    return partial(provider.schedule_command, command("again", 5))


def _find_all_filters(provider: Provider) -> Call:
    return partial(
        provider.find_workflows,
        status=WorkflowStatus.RUNNABLE,
        definition_id="order",
        version=1,
        reference="A-17",
        root_workflow_id="root",
        created_from=at(0),
        created_to=at(1),
        completed_from=at(0),
        completed_to=at(1),
        name_prefix="name",
        reference_prefix="A",
        untouched_since=at(0),
        limit=10,
    )


def _find_next_page(provider: Provider) -> Call:
    provider.create_new_workflow(workflow())
    provider.create_new_workflow(workflow())
    page = provider.find_workflows(limit=1)
    assert page.next_cursor is not None
    return partial(provider.find_workflows, limit=1, cursor=page.next_cursor)


def _process_none_due(provider: Provider) -> Call:
    provider.schedule_command(command("later"))
    return partial(provider.process_commands, at(-1), lambda _: None)


def _process_three(provider: Provider) -> Call:
    provider.truncate_all()
    for data in ("a", "b", "c"):
        provider.schedule_command(command(data))

    def process() -> None:
        assert provider.process_commands(at(1), lambda _: None) == 3

    return process


def _renew(provider: Provider) -> Call:
    instance = loaded(provider, 10)
    assert instance.revision is not None
    return partial(provider.renew_workflow, instance.id, instance.revision, 1)


def _set_status(method: Callable[[Provider, str], bool], status: WorkflowStatus = WorkflowStatus.RUNNABLE) -> Prepare:
    def prepare(provider: Provider) -> Call:
        id = provider.create_new_workflow(workflow(status=status))

        def change() -> None:
            assert method(provider, id)

        return change

    return prepare


def _delete(provider: Provider) -> Call:
    return partial(provider.delete_workflow, loaded(provider, 3).id)


def _purge_workflows(provider: Provider) -> Call:
    for _ in range(3):
        provider.create_new_workflow(workflow(status=WorkflowStatus.COMPLETE, complete_time=at(0)))

    def purge() -> None:
        assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=2) == 3

    return purge


def _delete_orphans(provider: Provider) -> Call:
    provider.persist_errors([ExecutionError("gone", "p", "failed", error_time=at(0))])
    return partial(provider.delete_orphans, at(1))


def _purge_errors(provider: Provider) -> Call:
    provider.truncate_all()
    provider.persist_errors([ExecutionError("w", "p", "failed", error_time=at(0)) for _ in range(3)])

    def purge() -> None:
        assert provider.purge_errors(at(1), batch_size=2) == 3

    return purge


def _purge_events(provider: Provider) -> Call:
    provider.truncate_all()
    for _ in range(3):
        provider.create_event(event(is_processed=True))

    def purge() -> None:
        assert provider.purge_events(at(1), batch_size=2) == 3

    return purge


ONE_ROUND_TRIP: dict[str, Prepare] = {
    "create_new_workflow": lambda it: partial(it.create_new_workflow, sized(10)),
    "persist_workflow of 1": save_of(1, changed=1),
    "persist_workflow of 10, 1 changed": save_of(10, changed=1),
    "persist_workflow of 100, 1 changed": save_of(100, changed=1),
    "persist_workflow of a copy": _of_a_copy,
    "persist_workflow_with_subscriptions": _with_subscriptions,
    "persist_workflow_with_subscriptions, none": _without_subscriptions,
    "renew_workflow": _renew,
    "get_workflow_instance": _get_workflow,
    "get_workflow_instance_by_name": _get_by_name,
    "get_workflow_instances of 50": _get_fifty,
    "get_runnable_instances": lambda it: partial(it.get_runnable_instances, at(0)),
    "get_runnable_instances, limited": lambda it: partial(it.get_runnable_instances, at(0), 10),
    "get_runnable_instances of definitions": lambda it: partial(
        it.get_runnable_instances, at(0), definitions=[("order", 1), ("order", 2)]
    ),
    "next_definition_sequence": lambda it: partial(it.next_definition_sequence, "order"),
    "create_event": lambda it: partial(it.create_event, event(event_data={"amount": 1})),
    "get_event": _on_event(Provider.get_event),
    "get_runnable_events": lambda it: partial(it.get_runnable_events, at(0)),
    "get_runnable_events, limited": lambda it: partial(it.get_runnable_events, at(0), 10),
    "get_events": lambda it: partial(it.get_events, "paid", "order-1", at(0)),
    "get_events_since": lambda it: partial(it.get_events_since, "paid", "order-1", at(0)),
    "mark_event_processed": _on_event(Provider.mark_event_processed),
    "mark_event_unprocessed": _on_event(Provider.mark_event_unprocessed),
    "create_event_subscription": lambda it: partial(it.create_event_subscription, subscription()),
    "get_subscription": _on_subscription(Provider.get_subscription),
    "get_subscriptions": lambda it: partial(it.get_subscriptions, "paid", "order-1", at(0)),
    "get_first_open_subscription": lambda it: partial(it.get_first_open_subscription, "paid", "order-1", at(0)),
    "set_subscription_token, open": _on_subscription(_set_token),
    "set_subscription_token, held": _on_subscription(_set_held_token, token="another's"),
    "clear_subscription_token": _on_subscription(_clear_token, token="mine"),
    "terminate_subscription": _on_subscription(Provider.terminate_subscription),
    "get_workflow_subscriptions": lambda it: partial(it.get_workflow_subscriptions, "workflow-1"),
    "schedule_command": lambda it: partial(it.schedule_command, command("once")),
    "schedule_command, rescheduled": _reschedule,
    "persist_errors of 100": _persist_errors,
    "find_workflows": lambda it: it.find_workflows,
    "find_workflows, next page": _find_next_page,
    "get_execution_errors": lambda it: it.get_execution_errors,
    "get_execution_errors of a workflow": lambda it: partial(it.get_execution_errors, "w", since=at(0)),
    "get_statistics": lambda it: it.get_statistics,
    "get_clock_offset": lambda it: it.get_clock_offset,
}

LARGE: dict[str, Prepare] = {
    "create_new_workflow of 1000": lambda it: partial(it.create_new_workflow, sized(1000)),
    "persist_workflow of 1000, 1 changed": save_of(1000, changed=1),
    "persist_workflow of 1000, all changed": save_of(1000, changed=1000),
}
"""The same for large workflows; their statements are prepared once those of the small ones are."""

OTHERS: dict[str, Counted] = {
    "persist_workflow, unconditional": Counted(_unconditional, 2),
    "suspend_workflow": Counted(_set_status(Provider.suspend_workflow), 2),
    "resume_workflow": Counted(_set_status(Provider.resume_workflow, WorkflowStatus.SUSPENDED), 2),
    "terminate_workflow": Counted(_set_status(Provider.terminate_workflow), 2),
    "process_commands, none due": Counted(_process_none_due, 2),
    "process_commands of 3": Counted(_process_three, 1 + 3 * 2 + 1),
    "find_workflows, all filters": Counted(_find_all_filters, 2),
    "delete_workflow": Counted(_delete, 2),
    "purge_workflows, 2 batches": Counted(_purge_workflows, 1 + 2 * 2),
    "delete_orphans of 1": Counted(_delete_orphans, 4 * 2 + 1),
    "purge_errors, 2 batches": Counted(_purge_errors, 1 + 2 * 2),
    "purge_events, 2 batches": Counted(_purge_events, 1 + 2 * 2),
    "persist_errors of none": Counted(lambda it: partial(it.persist_errors, []), 0),
    "get_workflow_instances of none": Counted(lambda it: partial(it.get_workflow_instances, []), 0),
    "truncate_all": Counted(lambda it: it.truncate_all, 2),
    "ensure_store_exists": Counted(lambda it: it.ensure_store_exists, 4),
}

ALL = {name: Counted(prepare) for name, prepare in (ONE_ROUND_TRIP | LARGE).items()} | OTHERS

NO_CALLS = {"from_engine", "using", "transaction", "step_transactions", "close", "supports_scheduled_commands"}
"""Public names that send no statement themselves (`transaction`: only BEGIN and COMMIT, by the driver)."""
