"""One database, two layouts in mind: a Rust host finds in our rows what it needs, and we read all of its."""

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

# What a Rust host takes from each column without asking whether it is NULL. (`data` and `event_data` cannot be.)
Text, Whole = str, int
NEEDED: dict[str, dict[str, type]] = {
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

# What it reads of ours ------------------------------------------------------------------------------------


def store_everything(provider: PostgresPersistenceProvider) -> None:
    """Of each thing one with a value in every field, and one with as few as can be."""
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


def test_it_finds_a_value_wherever_it_needs_one(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    store_everything(provider)
    for table, columns in NEEDED.items():
        rows = rust.rows(table)
        assert rows
        for row in rows:
            for column, kind in columns.items():
                assert isinstance(row[column], kind), f"{table}.{column} is {row[column]!r}"


def test_none_is_null_where_it_may_be_and_json_null_where_it_may_not(
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


def test_it_reads_our_values_as_its_own(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """The spellings of states, times to the microsecond, JSON as it is, milliseconds as a number."""
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


def test_our_saves_show_it_that_we_live(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Each sets the heartbeat to the database's present time, also one that changes nothing."""
    instance = created(provider, workflow())
    for stamped in (True, False):
        [before] = rust.query("SELECT clock_timestamp() AS now")
        if not stamped:
            instance.revision = None
        provider.persist_workflow(instance)
        assert rust.row("workflows", id=instance.id)["last_heartbeat_at"] >= before["now"]


def _as_row(given: ExecutionPointer) -> Row:
    return vars(given) | {"status": given.status.value}


# What we read of its --------------------------------------------------------------------------------------


def test_its_workflow_is_ours(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Every field, and the pointers in the order in which it inserted them."""
    instance = full_workflow(id="full", name="full")
    rows = [_as_row(it) for it in instance.execution_pointers]
    values = vars(instance) | {"definition_id": "order", "status": "Suspended"}
    rust.create({key: value for key, value in values.items() if key != "execution_pointers"}, rows)
    assert provider.get_workflow_instance("full") == instance
    assert provider.get_workflow_instance_by_name("full") == instance
    assert provider.find_workflows(reference="A-17").items[0].id == "full"


def test_its_pointers_keep_its_order(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Also after it deleted and stored them anew, many times, in any order."""
    chance = random.Random(1)
    id = rust_workflow(rust, "c", "a", "b")
    assert ids_of(provider.get_workflow_instance(id)) == ["c", "a", "b"]
    row, _ = rust.load(id)
    for _ in range(10):
        order = chance.sample("abcdefgh", chance.randint(0, 8))
        rust.save(row, [pointer_row(it) for it in order])
        assert ids_of(provider.get_workflow_instance(id)) == order


def test_json_null_in_its_rows_is_none(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    id = rust_workflow(rust, "p")
    columns = ("persistence_data", "event_data", "context_item", "outcome")
    for column in columns:
        rust.run(f"UPDATE wfc.execution_pointers SET {column} = 'null'")
    [found] = provider.get_workflow_instance(id).execution_pointers
    assert [getattr(found, column) for column in columns] == [None] * 4


def test_its_events_errors_and_subscriptions_are_ours(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
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


def test_it_polls_what_we_have_created(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """Runnable workflows and unprocessed events, by the conditions that its own polls have."""
    due = provider.create_new_workflow(workflow(next_execution=ms(0)))
    provider.create_new_workflow(workflow(next_execution=None))
    provider.create_new_workflow(workflow(next_execution=ms(0), status=WorkflowStatus.COMPLETE))
    new = provider.create_event(event())
    provider.create_event(event(is_processed=True))
    runnable = "SELECT id FROM wfc.workflows WHERE next_execution <= %s AND status = 'Runnable'"
    unprocessed = "SELECT id FROM wfc.events WHERE is_processed = false AND event_time <= %s"
    assert [row["id"] for row in rust.query(runnable, ms(1))] == [due]
    assert [row["id"] for row in rust.query(unprocessed, at(1))] == [new]
