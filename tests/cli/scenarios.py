"""Workflows with something to see, and a secret wherever the customers' data lies."""

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
BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOSTILE = "evil\x1b]0;owned\x07\n[red]x[/red] \u202eabc"
SHOWN_HOSTILE = r"evil\x1b]0;owned\x07\n[red]x[/red] \u202eabc"
"""Text that would steer a terminal, break a line, be markup to rich or turn round what follows; and how it is shown."""


def pointer(id: str, status: PointerStatus, after: str | None = None, within: str = "") -> ExecutionPointer:
    """A pointer that took, or has taken, two and a half seconds at first; its scope is the ids in `within`."""
    made = ExecutionPointer(len(id), id=id, step_name=f"do_{id}", status=status, predecessor_id=after)
    made.scope = within.split()
    made.start_time = BEGIN
    if status in (P.COMPLETE, P.FAILED):
        made.end_time = BEGIN + timedelta(seconds=2.5)
    made.context_item = made.persistence_data = made.outcome = made.event_data = {"card": SECRET}
    made.extension_attributes = {"note": SECRET}
    return made


def order(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A fan-out with a step that failed and one that sleeps, and four waits for an event: one for each holder."""
    made = WorkflowInstance(
        "order", 1, {"card": SECRET}, name="order-4711", reference="4711", create_time=BEGIN, next_execution=None
    )
    made.execution_pointers = [
        pointer("reserve", P.COMPLETE),
        pointer("pick", P.RUNNING, "reserve"),
        pointer("one", P.COMPLETE, "pick", "pick"),
        pointer("label", P.RUNNING, "one", "pick"),
        pointer("two", P.FAILED, "pick", "pick"),
        pointer("three", P.SLEEPING, "pick", "pick"),
        *(pointer(id, P.WAITING_FOR_EVENT, "reserve") for id in ("open", "held", "lapsed", "alone")),
    ]
    by_id = {it.id: it for it in made.execution_pointers}
    by_id["reserve"].retry_count = 2
    by_id["three"].sleep_until = BEGIN + timedelta(hours=1)
    by_id["alone"].event_name, by_id["alone"].event_key = "paid", "nobody"
    provider.create_new_workflow(made)
    now = datetime.now(UTC)
    for id, expiry in (("open", None), ("held", now + timedelta(days=2)), ("lapsed", now - timedelta(days=2))):
        waiting = EventSubscription(made.id, 2, id, "paid", f"key-{id}", subscription_data={"card": SECRET})
        provider.create_event_subscription(waiting)
        if expiry:
            assert provider.set_subscription_token(waiting.id, SECRET, f"worker-{id}", expiry)
    provider.persist_errors(
        [
            ExecutionError(made.id, "two", "TimeoutError: the warehouse\n  did not answer", error_time=BEGIN),
            ExecutionError(
                made.id, "two", "ValueError: " + "no such shelf " * 20, error_time=BEGIN + timedelta(days=1)
            ),
        ]
    )
    return made


def mailing(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A fan-out of 2,998 branches, of which eight failed and one runs."""
    made = WorkflowInstance("mailing", 3, name="mailing")
    made.execution_pointers = [pointer("recipients", P.COMPLETE), pointer("send_all", P.RUNNING, "recipients")]
    for number in range(2998):
        status = P.FAILED if number % 400 == 7 else P.RUNNING if number == 2500 else P.COMPLETE
        made.execution_pointers.append(pointer(f"n{number}", status, "send_all", "send_all"))
    provider.create_new_workflow(made)
    return made


def hostile(provider: PostgresPersistenceProvider) -> WorkflowInstance:
    """A workflow, an event, a subscription and an error, whose every text is hostile."""
    made = WorkflowInstance(HOSTILE, 1, {}, name=HOSTILE, reference=HOSTILE, description=HOSTILE)
    made.execution_pointers = [pointer("p", P.WAITING_FOR_EVENT)]
    made.execution_pointers[0].step_name = HOSTILE
    provider.create_new_workflow(made)
    waiting = EventSubscription(made.id, 2, "p", HOSTILE, HOSTILE)
    provider.create_event_subscription(waiting)
    assert provider.set_subscription_token(waiting.id, SECRET, HOSTILE, datetime.now(UTC) + timedelta(days=1))
    provider.create_event(Event(HOSTILE, HOSTILE, {"card": SECRET}))
    provider.persist_errors([ExecutionError(made.id, "p", HOSTILE)])
    return made


def everything(provider: PostgresPersistenceProvider) -> None:
    """All of the above, an event, a command, and a few finished workflows."""
    order(provider)
    mailing(provider)
    hostile(provider)
    provider.create_event(Event("paid", "4711", {"card": SECRET}, event_time=BEGIN))
    provider.schedule_command(ScheduledCommand.process_workflow("x", 1))
    finished(provider, 5, WorkflowStatus.COMPLETE, BEGIN)


def finished(
    provider: PostgresPersistenceProvider, number: int, status: WorkflowStatus, at: datetime
) -> list[WorkflowInstance]:
    """So many finished workflows, each a microsecond after the one before, with a pointer and an error each."""
    made = []
    for place in range(number):
        moment = at + timedelta(microseconds=place)
        instance = WorkflowInstance("done", 1, status=status, create_time=at, complete_time=moment)
        instance.execution_pointers = [pointer("only", P.COMPLETE)]
        provider.create_new_workflow(instance)
        provider.persist_errors([ExecutionError(instance.id, "only", "once")])
        made.append(instance)
    return made
