"""Example workflows for the command; all customer data contains a secret."""

from datetime import UTC, datetime, timedelta

from tests.cli.running import SECRET
from wfe_postgres import (
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)

P = PointerStatus
START = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOSTILE = "evil\x1b]0;owned\x07\n[red]x[/red] \u202eabc"
SHOWN_HOSTILE = r"evil\x1b]0;owned\x07\n[red]x[/red] \u202eabc"
"""Text with terminal control sequences, a newline, rich markup and a bidi override; and how it must be displayed."""


def pointer(id: str, status: PointerStatus, after: str | None = None, within: str = "") -> ExecutionPointer:
    """A pointer that started at `START`, and took 2.5 seconds if it has ended; `within` lists its scope."""
    created = ExecutionPointer(len(id), id=id, step_name=f"do_{id}", status=status, predecessor_id=after)
    created.scope = within.split()
    created.start_time = START
    if status in (P.COMPLETE, P.FAILED):
        created.end_time = START + timedelta(seconds=2.5)
    created.context_item = created.persistence_data = created.outcome = created.event_data = {"card": SECRET}
    created.extension_attributes = {"note": SECRET}
    return created


def order(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A fan-out with a failed and a sleeping step, and four pointers waiting for an event in different token states."""
    created = WorkflowInstance(
        "order", 1, {"card": SECRET}, name="order-4711", reference="4711", create_time=START, next_execution=None
    )
    created.execution_pointers = [
        pointer("reserve", P.COMPLETE),
        pointer("pick", P.RUNNING, "reserve"),
        pointer("one", P.COMPLETE, "pick", "pick"),
        pointer("label", P.RUNNING, "one", "pick"),
        pointer("two", P.FAILED, "pick", "pick"),
        pointer("three", P.SLEEPING, "pick", "pick"),
        *(pointer(id, P.WAITING_FOR_EVENT, "reserve") for id in ("open", "held", "lapsed", "alone")),
    ]
    by_id = {it.id: it for it in created.execution_pointers}
    by_id["reserve"].retry_count = 2
    by_id["three"].sleep_until = START + timedelta(hours=1)
    by_id["alone"].event_name, by_id["alone"].event_key = "paid", "nobody"
    provider.create_new_workflow(created)
    now = datetime.now(UTC)
    for id, expiry in (("open", None), ("held", now + timedelta(days=2)), ("lapsed", now - timedelta(days=2))):
        new_subscription = EventSubscription(created.id, 2, id, "paid", f"key-{id}", subscription_data={"card": SECRET})
        provider.create_event_subscription(new_subscription)
        if expiry:
            assert provider.set_subscription_token(new_subscription.id, SECRET, f"worker-{id}", expiry)
    provider.persist_errors(
        [
            ExecutionError(created.id, "two", "TimeoutError: the warehouse\n  did not answer", error_time=START),
            ExecutionError(
                created.id, "two", "ValueError: " + "no such shelf " * 20, error_time=START + timedelta(days=1)
            ),
        ]
    )
    return created


def mailing(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A fan-out of 2,998 branches; eight have failed and one is running."""
    created = WorkflowInstance("mailing", 3, name="mailing")
    created.execution_pointers = [pointer("recipients", P.COMPLETE), pointer("send_all", P.RUNNING, "recipients")]
    for number in range(2998):
        status = P.FAILED if number % 400 == 7 else P.RUNNING if number == 2500 else P.COMPLETE
        created.execution_pointers.append(pointer(f"n{number}", status, "send_all", "send_all"))
    provider.create_new_workflow(created)
    return created


def hostile(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A workflow, an event, a subscription and an error with hostile text in every field."""
    created = WorkflowInstance(HOSTILE, 1, {}, name=HOSTILE, reference=HOSTILE, description=HOSTILE)
    created.execution_pointers = [pointer("p", P.WAITING_FOR_EVENT)]
    created.execution_pointers[0].step_name = HOSTILE
    provider.create_new_workflow(created)
    new_subscription = EventSubscription(created.id, 2, "p", HOSTILE, HOSTILE)
    provider.create_event_subscription(new_subscription)
    assert provider.set_subscription_token(new_subscription.id, SECRET, HOSTILE, datetime.now(UTC) + timedelta(days=1))
    provider.create_event(Event(HOSTILE, HOSTILE, {"card": SECRET}))
    provider.persist_errors([ExecutionError(created.id, "p", HOSTILE)])
    return created


def everything(provider: PostgresPersistenceProvider) -> None:
    """All of the above, an event, a command, and five finished workflows."""
    order(provider)
    mailing(provider)
    hostile(provider)
    provider.create_event(Event("paid", "4711", {"card": SECRET}, event_time=START))
    provider.schedule_command(ScheduledCommand.process_workflow("x", 1))
    finished(provider, 5, WorkflowStatus.COMPLETE, START)


def finished(
    provider: PostgresPersistenceProvider, number: int, status: WorkflowStatus, at: datetime
) -> list[WorkflowInstance]:
    """`number` finished workflows, one microsecond apart, each with a pointer and an error."""
    created = []
    for index in range(number):
        timestamp = at + timedelta(microseconds=index)
        instance = WorkflowInstance("done", 1, status=status, create_time=at, complete_time=timestamp)
        instance.execution_pointers = [pointer("only", P.COMPLETE)]
        provider.create_new_workflow(instance)
        provider.persist_errors([ExecutionError(instance.id, "only", "once")])
        created.append(instance)
    return created
