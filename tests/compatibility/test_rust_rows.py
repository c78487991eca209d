"""A Rust host can read the rows of this provider, and the provider can read those of a Rust host."""

import random
from datetime import datetime
from typing import Any

from tests.compatibility.rust_host import Row, RustHost, ids_of, pointer_row, rust_workflow
from wfe_postgres import (
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    full_pointer,
    full_workflow,
    ms,
    pointer,
    subscription,
    workflow,
)

# Columns that a Rust host reads as NOT NULL, with their types. (`data` and `event_data` have NOT NULL constraints.)
Text, Whole = str, int
REQUIRED: dict[str, dict[str, type]] = {
    "workflows": {
        "id": Text,
        "name": Text,
        "definition_id": Text,
        "version": Whole,
        "status": Text,
        "create_time": datetime,
    },
    "execution_pointers": {
        "id": Text,
        "workflow_id": Text,
        "step_id": Whole,
        "active": bool,
        "status": Text,
        "event_published": bool,
        "retry_count": Whole,
        "children": list,
        "scope": list,
        "extension_attributes": dict,
    },
    "events": {
        "id": Text,
        "event_name": Text,
        "event_key": Text,
        "event_time": datetime,
        "is_processed": bool,
    },
    "event_subscriptions": {
        "id": Text,
        "workflow_id": Text,
        "step_id": Whole,
        "execution_pointer_id": Text,
        "event_name": Text,
        "event_key": Text,
        "subscribe_as_of": datetime,
    },
    "execution_errors": {
        "id": Whole,
        "error_time": datetime,
        "workflow_id": Text,
        "execution_pointer_id": Text,
        "message": Text,
    },
    "scheduled_commands": {"id": Whole, "command_name": Text, "data": Text, "execute_time": Whole},
}

# Rows of the provider, read by a Rust host ----------------------------------------------------------------


def store_everything(provider: PostgresPersistenceProvider) -> None:
    """Store each kind of object with a value in every field, and with default values."""
    provider.create_new_workflow(full_workflow(id="full"))
    provider.create_new_workflow(WorkflowInstance("order", 1, None, execution_pointers=[ExecutionPointer(0)]))
    late = created(provider, workflow())
    late.execution_pointers.append(ExecutionPointer(1))
    late.execution_pointers[0].outcome = None
    provider.persist_workflow_with_subscriptions(late, [subscription(subscription_data={"a": 1})])
    late.revision = None
    late.execution_pointers.append(full_pointer("last"))
    provider.persist_workflow(late)
    provider.create_event(event(event_data={"paid": 1}, is_processed=True))
    provider.create_event(Event("paid", "order-1"))
    provider.create_event_subscription(EventSubscription("w", 1, "p", "paid", "order-1"))
    provider.persist_errors([ExecutionError("w", "p", "message")])
    provider.schedule_command(command("w"))


def test_required_columns_are_never_null(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    store_everything(provider)
    for table, columns in REQUIRED.items():
        rows = rust.rows(table)
        assert rows
        for row in rows:
            for column, kind in columns.items():
                assert isinstance(row[column], kind), f"{table}.{column} is {row[column]!r}"


def test_none_is_stored_as_null_or_as_json_null_in_not_null_columns(
    provider: PostgresPersistenceProvider, rust: RustHost
) -> None:
    provider.create_new_workflow(workflow(pointer("p", persistence_data=None), id="w", data=None))
    provider.create_event(Event("paid", "order-1", None, id="e"))
    provider.create_event_subscription(subscription(id="s", subscription_data=None))

    def is_json_null(table: str, column: str) -> Any:
        [row] = rust.query(f"SELECT {column} = 'null'::jsonb AS found FROM wfc.{table}")
        return row["found"]

    assert is_json_null("workflows", "data") is True
    assert is_json_null("events", "event_data") is True
    for column in ("persistence_data", "event_data", "context_item", "outcome"):
        assert is_json_null("execution_pointers", column) is None
    assert is_json_null("event_subscriptions", "subscription_data") is None


def test_rust_host_reads_stored_values(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Status names, times with microseconds, JSON values, and milliseconds as integers."""
    instance = full_workflow(id="full")
    provider.create_new_workflow(instance)
    row, pointers = rust.load("full")
    assert (row["status"], row["next_execution"], row["data"]) == ("Suspended", ms(5), instance.data)
    assert (row["create_time"], row["complete_time"], row["reference"]) == (at(0), at(9), "A-17")
    by_id = {it["id"]: it for it in pointers}
    assert by_id["b"].items() >= _as_row(instance.execution_pointers[0]).items()
    provider.schedule_command(ScheduledCommand.process_event("e", ms(1)))
    scheduled = rust.row("scheduled_commands", data="e")
    assert (scheduled["command_name"], scheduled["execute_time"]) == ("ProcessEvent", ms(1))


def test_every_save_updates_the_heartbeat(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Each save sets the heartbeat to the current time of the database, even without changes."""
    instance = created(provider, workflow())
    for with_revision in (True, False):
        [before] = rust.query("SELECT clock_timestamp() AS now")
        if not with_revision:
            instance.revision = None
        provider.persist_workflow(instance)
        assert rust.row("workflows", id=instance.id)["last_heartbeat_at"] >= before["now"]


def _as_row(source: ExecutionPointer) -> Row:
    return vars(source) | {"status": source.status.value}


# Rows of a Rust host, read by the provider ----------------------------------------------------------------


def test_rust_workflow_is_loaded_with_every_field(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """All fields, and the pointers in insertion order."""
    instance = full_workflow(id="full", name="full")
    rows = [_as_row(it) for it in instance.execution_pointers]
    values = vars(instance) | {"definition_id": "order", "status": "Suspended"}
    rust.create({key: value for key, value in values.items() if key != "execution_pointers"}, rows)
    assert provider.get_workflow_instance("full") == instance
    assert provider.get_workflow_instance_by_name("full") == instance
    assert provider.find_workflows(reference="A-17").items[0].id == "full"


def test_rust_pointers_are_loaded_in_insertion_order(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Also after the Rust host has deleted and reinserted them several times, in random order."""
    rng = random.Random(1)
    id = rust_workflow(rust, "c", "a", "b")
    assert ids_of(provider.get_workflow_instance(id)) == ["c", "a", "b"]
    row, _ = rust.load(id)
    for _ in range(10):
        order = rng.sample("abcdefgh", rng.randint(0, 8))
        rust.save(row, [pointer_row(it) for it in order])
        assert ids_of(provider.get_workflow_instance(id)) == order


def test_json_null_in_rust_rows_is_loaded_as_none(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    id = rust_workflow(rust, "p")
    columns = ("persistence_data", "event_data", "context_item", "outcome")
    for column in columns:
        rust.run(f"UPDATE wfc.execution_pointers SET {column} = 'null'")
    [found] = provider.get_workflow_instance(id).execution_pointers
    assert [getattr(found, column) for column in columns] == [None] * 4


def test_rust_events_errors_and_subscriptions_are_loaded(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    happened = event(event_data={"paid": [1]})
    waiting = subscription(subscription_data={"a": None}, external_token="t", external_token_expiry=at(1))
    wrong = ExecutionError("w", "p", "message", error_time=at(0))
    rust.insert("events", vars(happened))
    rust.insert("event_subscriptions", vars(waiting))
    rust.insert("execution_errors", vars(wrong), vars(wrong))
    assert provider.get_event(happened.id) == happened
    assert provider.get_runnable_events(at(1)) == [happened.id]
    assert provider.get_subscription(waiting.id) == waiting
    assert provider.get_execution_errors("w") == [wrong, wrong]
    rust.run("UPDATE wfc.events SET is_processed = true WHERE id = %s", happened.id)
    assert provider.get_runnable_events(at(1)) == []
    rust.run("DELETE FROM wfc.event_subscriptions WHERE id = %s", waiting.id)
    assert provider.get_workflow_subscriptions("workflow-1") == []


def test_rust_polling_queries_find_stored_objects(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Runnable workflows and unprocessed events, with the conditions of the Rust polling queries."""
    due = provider.create_new_workflow(workflow(next_execution=ms(0)))
    provider.create_new_workflow(workflow(next_execution=None))
    provider.create_new_workflow(workflow(next_execution=ms(0), status=WorkflowStatus.COMPLETE))
    new = provider.create_event(event())
    provider.create_event(event(is_processed=True))
    runnable = "SELECT id FROM wfc.workflows WHERE next_execution <= %s AND status = 'Runnable'"
    unprocessed = "SELECT id FROM wfc.events WHERE is_processed = false AND event_time <= %s"
    assert [row["id"] for row in rust.query(runnable, ms(1))] == [due]
    assert [row["id"] for row in rust.query(unprocessed, at(1))] == [new]
