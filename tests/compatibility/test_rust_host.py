"""A Rust host and this provider on the same database at the same time: neither loses changes of the other."""

import random
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress

import psycopg
import pytest

from tests.compatibility.rust_host import Row, RustHost, ids_of, pointer_row, rust_host, rust_workflow, workflow_row
from tests.concurrency.support import run_in_threads
from wfe_postgres import (
    CommandName,
    ConcurrencyError,
    PointerStatus,
    PostgresPersistenceProvider,
    ScheduledCommand,
    SubscriptionTokenError,
    WorkflowInstance,
    WorkflowNotFoundError,
)
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    TIMEOUT,
    at,
    command,
    created,
    from_now,
    ms,
    pointer,
    state,
    subscription,
    workflow,
)

# Concurrent saves -----------------------------------------------------------------------------------------


def _change_nothing(row: Row, pointers: list[Row]) -> None:
    """A save without changes."""


def _finish(row: Row, pointers: list[Row]) -> None:
    row["status"] = "Complete"
    pointers.reverse()


def _remove_all_pointers(row: Row, pointers: list[Row]) -> None:
    pointers.clear()


@pytest.mark.parametrize("change", [_change_nothing, _finish, _remove_all_pointers])
def test_rust_save_since_load_raises_concurrency_error(
    provider: PostgresPersistenceProvider, rust: RustHost, change: Callable[[Row, list[Row]], None]
) -> None:
    """The save of the provider is rejected, and the rows of the Rust host are not changed."""
    ours = created(provider, workflow(pointer("a"), pointer("b")))
    row, pointers = rust.load(ours.id)
    change(row, pointers)
    rust.save(row, pointers)
    theirs = rust.load(ours.id)
    ours.data = "ours"
    ours.execution_pointers[0].status = PointerStatus.COMPLETE
    before = state(ours)
    with pytest.raises(ConcurrencyError) as caught:
        provider.persist_workflow_with_subscriptions(ours, [subscription(workflow_id=ours.id)])
    assert caught.value.found == theirs[0]["revision"] != ours.revision
    assert rust.load(ours.id) == theirs
    assert state(ours) == before
    assert rust.rows("event_subscriptions") == []


def test_rust_deletion_since_load_raises_workflow_not_found(
    provider: PostgresPersistenceProvider, rust: RustHost
) -> None:
    ours = created(provider, workflow())
    rust.run("DELETE FROM wfc.execution_pointers WHERE workflow_id = %s", ours.id)
    rust.run("DELETE FROM wfc.workflows WHERE id = %s", ours.id)
    with pytest.raises(WorkflowNotFoundError):
        provider.persist_workflow(ours)


def test_alternating_saves_keep_pointers_and_order(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Both add, move and remove pointers and change fields in turn; nothing is lost, and the order is kept.

    Positions of pointers that a Rust host inserts are consecutive; those that the provider assigns have gaps.
    """
    rng = random.Random(7)
    id = rust_workflow(rust, "a", "b", "c")
    expected = ["a", "b", "c"]
    for turn in range(12):
        row, pointers = rust.load(id)
        by_id = {it["id"]: it for it in pointers}
        assert by_id.keys() == set(expected)
        expected.insert(rng.randint(0, len(expected)), f"rust-{turn}")
        by_id[f"rust-{turn}"] = pointer_row(f"rust-{turn}", step_id=turn)
        rust.save(row | {"description": f"rust {turn}"}, [by_id[it] for it in expected])

        for part in range(2):
            instance = provider.get_workflow_instance(id)
            assert ids_of(instance) == expected
            assert instance.description == (f"rust {turn}" if part == 0 else "ours")
            index = rng.randint(0, len(expected))
            instance.execution_pointers.insert(index, pointer(f"ours-{turn}-{part}", step_id=turn))
            instance.execution_pointers.pop(rng.randrange(len(expected)))
            instance.description = "ours"
            provider.persist_workflow(instance)
            expected = ids_of(instance)
    assert provider.get_workflow_instance(id) == instance


def test_concurrent_saves_of_both_hosts_are_not_mixed(provider: PostgresPersistenceProvider, database_url: str) -> None:
    """Each load returns the pointers of one save, identified by the description of the workflow."""
    with rust_host(database_url) as rust:
        id = rust_workflow(rust)
    ended = threading.Event()
    last = threading.Barrier(4, ended.set, TIMEOUT)

    def write_as_rust(number: int) -> None:
        with rust_host(database_url) as own:
            row, _ = own.load(id)
            for turn in range(30):
                mark = f"{number}-{turn}"
                own.save(row | {"description": mark}, [pointer_row(f"{mark}-{it}") for it in range(turn % 5)])
        last.wait()

    def write(number: int) -> None:
        for turn in range(30):
            instance = provider.get_workflow_instance(id)
            instance.description = f"{number}-{turn}"
            instance.execution_pointers = [pointer(f"{number}-{turn}-{it}") for it in range(turn % 5)]
            if turn % 3 == 0:
                instance.revision = None
            with suppress(ConcurrencyError):
                provider.persist_workflow(instance)
        last.wait()

    def read(_: int) -> None:
        while not ended.is_set():
            check_consistent(provider.get_workflow_instance(id))

    parts = [write_as_rust, write_as_rust, write, write, read, read]
    run_in_threads(len(parts), lambda number: parts[number](number))
    check_consistent(provider.get_workflow_instance(id))


def check_consistent(instance: WorkflowInstance) -> None:
    """Check that the pointers belong to the save that the description names."""
    if instance.description is not None:
        turn = int(instance.description.split("-")[1])
        assert ids_of(instance) == [f"{instance.description}-{it}" for it in range(turn % 5)]


@pytest.mark.parametrize("pointers", [[], [pointer_row("p")]], ids=["without pointers", "with a pointer"])
def test_save_of_unknown_workflow_stores_nothing(
    provider: PostgresPersistenceProvider, rust: RustHost, pointers: list[Row]
) -> None:
    """The statements of a Rust host fail only if there is a pointer; the provider raises in both cases."""
    row = workflow_row("unknown", create_time=at(0))
    with pytest.raises(psycopg.errors.ForeignKeyViolation) if pointers else nullcontext():
        rust.save(row, pointers)
    instance = WorkflowInstance("order", 1, id="unknown", execution_pointers=[pointer("p")] if pointers else [])
    with pytest.raises(WorkflowNotFoundError):
        provider.persist_workflow(instance)
    assert (rust.rows("workflows"), rust.rows("execution_pointers")) == ([], [])


def test_token_is_renewed_by_the_provider_only(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    id = provider.create_event_subscription(subscription())
    assert rust.take_token(id, "token", "worker", from_now(60))
    assert not rust.take_token(id, "token", "worker", from_now(90))
    assert provider.set_subscription_token(id, "token", "worker", from_now(90))


# Tokens, commands, sequences ------------------------------------------------------------------------------


def test_token_requested_by_both_hosts_is_set_once(provider: PostgresPersistenceProvider, database_url: str) -> None:
    ids = [provider.create_event_subscription(subscription()) for _ in range(40)]
    turn = threading.Barrier(6, timeout=TIMEOUT)

    def race(number: int) -> list[bool]:
        answers = []
        with rust_host(database_url) as own:
            for id in ids:
                turn.wait()
                take = own.take_token if number % 2 else provider.set_subscription_token
                answers.append(take(id, str(number), "worker", from_now(60)))
        return answers

    rounds = list(zip(*run_in_threads(6, race), strict=True))
    assert all(answers.count(True) == 1 for answers in rounds)
    winners = [str(answers.index(True)) for answers in rounds]
    assert [provider.get_subscription(id).external_token for id in ids] == winners


def test_token_set_by_one_host_is_respected_by_the_other(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """An expired token of the Rust host may be taken over; its old token is then rejected."""
    id = provider.create_event_subscription(subscription())
    assert rust.take_token(id, "rust", "worker", from_now(60))
    assert not provider.set_subscription_token(id, "ours", "worker", from_now(60))
    assert provider.get_subscriptions("paid", "order-1", at(0)) == []
    with pytest.raises(SubscriptionTokenError):
        provider.clear_subscription_token(id, "ours")
    assert rust.clear_token(id, "rust")
    assert rust.take_token(id, "rust", "worker", from_now(-1))
    assert provider.set_subscription_token(id, "ours", "worker", from_now(60))
    assert not rust.take_token(id, "rust", "worker", from_now(60))
    assert not rust.clear_token(id, "rust")
    provider.clear_subscription_token(id, "ours")
    assert rust.take_token(id, "rust", "worker", from_now(60))


@pytest.mark.parametrize("moved", [0, 5, -5], ids=["same time", "later", "earlier"])
@pytest.mark.parametrize("fails", [False, True])
def test_command_rescheduled_by_rust_during_handling_is_kept(
    provider: PostgresPersistenceProvider, rust: RustHost, moved: int, fails: bool
) -> None:
    def handle(received: ScheduledCommand) -> None:
        rust.schedule(received.command_name, received.data, received.execute_time + moved)
        if fails:
            raise ValueError

    provider.schedule_command(command("w", 5))
    with suppress(ExceptionGroup):
        provider.process_commands(at(999), handle)
    handled = Recorder()
    assert provider.process_commands(at(999), handled) == 1
    assert handled.seen == [ScheduledCommand(CommandName.PROCESS_WORKFLOW, "w", ms(5) + moved)]
    assert provider.process_commands(at(999), never) == 0
    assert rust.rows("scheduled_commands") == []


def test_command_rescheduled_by_rust_in_open_transaction_is_kept(
    provider: PostgresPersistenceProvider, database_url: str, rust: RustHost
) -> None:
    """Rescheduled during handling and committed while the command is being finished: finishing waits and keeps it."""
    scheduled, handled = threading.Event(), threading.Event()

    def schedule_late(_: int) -> None:
        with rust_host(database_url) as other:
            assert handled.wait(TIMEOUT)
            with other.transaction():
                other.schedule("ProcessWorkflow", "w", ms(5))
                scheduled.set()
                while not rust.query(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ):
                    pass

    def handle(_: ScheduledCommand) -> None:
        handled.set()
        assert scheduled.wait(TIMEOUT)

    def process(_: int) -> None:
        assert provider.process_commands(at(999), handle) == 1

    provider.schedule_command(command("w", 5))
    parts = [process, schedule_late]
    run_in_threads(2, lambda number: parts[number](number))
    assert provider.process_commands(at(999), Recorder()) == 1


def test_claimed_command_deleted_by_rust_is_not_an_error(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """A Rust host deletes all due commands, even claimed ones: the call succeeds, and new commands are kept."""
    for number in range(4):
        provider.schedule_command(command(str(number), number))
    assert [it["data"] for it in sorted(rust.due(ms(3)), key=lambda row: row["execute_time"])] == ["0", "1", "2", "3"]
    handled = Recorder()

    def handle(received: ScheduledCommand) -> None:
        handled(received)
        rust.delete_due(ms(3))
        rust.schedule("ProcessWorkflow", received.data, ms(6))

    assert provider.process_commands(at(999), handle) == 1
    assert handled.data == ["0"]
    [row] = rust.rows("scheduled_commands")
    assert (row["data"], row["execute_time"]) == ("0", ms(6))
    assert provider.process_commands(at(999), Recorder()) == 1


def test_sequence_used_by_both_hosts_has_no_duplicates_and_no_gaps(
    provider: PostgresPersistenceProvider, database_url: str
) -> None:
    def take(number: int) -> list[int]:
        with rust_host(database_url) as own:
            next_number = own.next_number if number % 2 else provider.next_definition_sequence
            return [next_number("order") for _ in range(25)]

    taken = [number for numbers in run_in_threads(8, take) for number in numbers]
    assert sorted(taken) == list(range(1, 201))
