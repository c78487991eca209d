"""A command handler may reschedule its own command, use the provider or fail, without blocking other sessions."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy import event as engine_events

from tests.concurrency.support import milliseconds
from tests.conftest import Sql
from wfe_postgres import (
    ConcurrencyError,
    ExecutionError,
    PersistenceProvider,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    ms,
    subscription,
    workflow,
)

LONGEST_CALL = 2.0  # seconds
FROM_OWN_SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'wfe_postgres'"
ROWS = "SELECT data, execute_time FROM wfc.scheduled_commands ORDER BY id"


def now() -> int:
    """Milliseconds since the Unix epoch."""
    return milliseconds(datetime.now(UTC))


@pytest.mark.parametrize("delay", [0, -5])
def test_handler_rescheduling_its_own_command_runs_each_occurrence(
    provider: PostgresPersistenceProvider, sql: Sql, delay: int
) -> None:
    """Each occurrence is handled by a separate call, no call blocks, and no row is left at the end."""
    own = ScheduledCommand.process_workflow("order", now())
    handled: list[int] = []
    calls: list[float] = []

    def handle(_: ScheduledCommand) -> None:
        handled.append(now())
        if len(handled) < 4:
            start = time.monotonic()
            provider.schedule_command(ScheduledCommand.process_workflow("order", now() + delay))
            calls.append(time.monotonic() - start)

    provider.schedule_command(own)
    for _turn in range(4):
        start = time.monotonic()
        assert provider.process_commands(datetime.now(UTC), handle) == 1
        calls.append(time.monotonic() - start)
    assert provider.process_commands(datetime.now(UTC), never) == 0
    assert len(handled) == 4
    assert max(calls) < LONGEST_CALL
    assert sql(ROWS) == []


def use_everything(provider: PostgresPersistenceProvider) -> None:
    """Call every method of the provider, in an order in which each has an effect."""
    instance = created(provider, workflow(name="all", status=WorkflowStatus.COMPLETE, complete_time=at(0)))
    second_load = provider.get_workflow_instance_by_name("all")
    provider.get_workflow_instances([instance.id])
    instance.data = 1
    provider.persist_workflow(instance)
    provider.persist_workflow_with_subscriptions(instance, [subscription(workflow_id=instance.id)])
    with pytest.raises(ConcurrencyError):
        provider.persist_workflow(second_load)
    second_load.revision = None
    provider.persist_workflow(second_load)
    provider.get_runnable_instances(at(0))
    provider.next_definition_sequence("order")
    id = provider.create_event(event())
    provider.mark_event_processed(id)
    provider.mark_event_unprocessed(id)
    provider.get_event(id)
    provider.get_runnable_events(at(1))
    provider.get_events("paid", "order-1", at(1))
    provider.get_events_since("paid", "order-1", at(0))
    waiting = provider.create_event_subscription(subscription())
    provider.get_subscription(waiting)
    provider.get_subscriptions("paid", "order-1", at(0))
    provider.get_first_open_subscription("paid", "order-1", at(0))
    provider.set_subscription_token(waiting, "token", "worker", from_now(60))
    provider.clear_subscription_token(waiting, "token")
    provider.terminate_subscription(waiting)
    use_the_rest(provider, instance.id)


def use_the_rest(provider: PostgresPersistenceProvider, id: str) -> None:
    """The methods for errors, commands, queries and deletions."""
    provider.persist_errors([ExecutionError(id, "first", "message")])
    provider.schedule_command(command("another", 9999))
    provider.process_commands(at(9999), Recorder())
    provider.ensure_store_exists()
    provider.find_workflows()
    provider.get_execution_errors()
    provider.get_workflow_subscriptions(id)
    provider.get_statistics()
    with provider.transaction() as joined:
        joined.get_workflow_instance(id)
    provider.delete_workflow(id)
    provider.purge_workflows(WorkflowStatus.COMPLETE, at(1))
    provider.purge_events(at(1))


def test_handler_with_pool_of_one_can_use_every_method(database_url: str, sql: Sql) -> None:
    """A pool with one connection is sufficient: no connection is checked out while a handler runs."""
    with PostgresPersistenceProvider(database_url, pool_size=1, max_overflow=0, pool_timeout=5.0) as provider:
        provider.schedule_command(command("all"))
        assert provider.process_commands(at(0), lambda _: use_everything(provider)) == 1
    assert sql(ROWS) == []


@pytest.mark.parametrize("moved", [0, 1, -1])
@pytest.mark.parametrize("fails", [False, True])
def test_command_rescheduled_by_another_host_during_handling_is_kept(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, moved: int, fails: bool
) -> None:
    """Even for the same due time: the row keeps the new due time after the handler, and is handled once more."""
    updated = command("order", 5 + moved)

    def handle(_: ScheduledCommand) -> None:
        with PostgresPersistenceProvider(database_url) as other:
            other.schedule_command(updated)
            assert other.process_commands(at(999), never) == 0, "the running occurrence holds the claim"
        if fails:
            raise ValueError

    provider.schedule_command(command("order", 5))
    if fails:
        with pytest.raises(ExceptionGroup):
            provider.process_commands(at(999), handle)
    else:
        assert provider.process_commands(at(999), handle) == 1
    assert sql(ROWS) == [("order", updated.execute_time)]
    handled = Recorder()
    assert provider.process_commands(at(999), handled) == 1
    assert handled.seen == [updated]
    assert sql(ROWS) == []


def test_no_transaction_is_open_while_a_handler_runs(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """From the first handler to the last, no connection is checked out and no other session holds a lock."""
    seen: list[Any] = []

    def observe(_: ScheduledCommand) -> None:
        for _sample in range(20):
            seen.extend(sql(f"SELECT state, query {FROM_OWN_SESSIONS} AND state <> 'idle'"))
            seen.extend(
                sql(
                    "SELECT locktype, mode FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype <> 'virtualxid'"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            )
            assert provider.engine.pool.checkedout() == 0  # type: ignore[attr-defined]

    for number in range(10):
        provider.schedule_command(command(str(number)))
    assert provider.process_commands(at(0), observe) == 10
    assert sql(f"SELECT count(*) > 0 {FROM_OWN_SESSIONS}") == [(True,)]
    assert seen == []


def test_statement_size_does_not_grow_with_the_number_of_handled_commands(database_url: str) -> None:
    """The parameters of each claim do not grow with the number of commands that the call has handled."""
    sizes: list[int] = []

    def measure(*sent: Any) -> None:
        sizes.append(len(repr(sent[3])))

    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    provider = PostgresPersistenceProvider.from_engine(engine)
    for number in range(300):
        provider.schedule_command(command(str(number)))
    engine_events.listen(engine, "before_cursor_execute", measure)
    assert provider.process_commands(at(0), Recorder()) == 300
    engine.dispose()
    assert len(sizes) > 600
    assert max(sizes) < 1000


def schedule_in(provider: PersistenceProvider, seconds: float) -> None:
    """Schedule a command that is due in `seconds` from now."""
    provider.schedule_command(ScheduledCommand.process_event("e", now() + round(seconds * 1000)))


def test_command_is_not_handled_before_its_due_time(provider: PostgresPersistenceProvider) -> None:
    schedule_in(provider, 3600)
    assert provider.process_commands(datetime.now(UTC), never) == 0
    assert provider.process_commands(datetime.now(UTC) + timedelta(hours=2), Recorder()) == 1
    assert ms(0) > now(), "the fixed times of the tests are in the future"


def test_command_recreated_during_a_call_is_handled_once_per_call(
    provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    """Row ids are allocated before the row is visible, so a new occurrence can have a lower id than handled ones."""
    handled: list[str] = []

    def handle(received: ScheduledCommand) -> None:
        handled.append(received.data)
        if received.data == "second":
            sql("INSERT INTO wfc.scheduled_commands VALUES (-1, 'ProcessWorkflow', 'first', 0)")

    provider.schedule_command(command("first", 1))
    provider.schedule_command(command("second", 2))
    assert provider.process_commands(at(999), handle) == 2
    assert sql(ROWS) == [("first", 0)]
    assert provider.process_commands(at(999), handle) == 1
    assert handled == ["first", "second", "first"]
    assert sql(ROWS) == []
