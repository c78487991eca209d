"""The statements of a Rust host, which name only the Rust columns, work at the head schema revision."""

import pytest

from tests.conftest import Sql

NEW_WORKFLOW = (
    "INSERT INTO wfc.workflows (id, name, root_workflow_id, definition_id, version, description, reference, status,"
    " data, next_execution, create_time, complete_time, last_heartbeat_at)"
    " VALUES (%s, %s, NULL, 'order', 1, NULL, NULL, 'Runnable', '{}', 0, now(), NULL, now())"
)
NEW_POINTER = (
    "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, active, status, sleep_until, persistence_data,"
    " start_time, end_time, event_name, event_key, event_published, event_data, step_name, retry_count, children,"
    " context_item, predecessor_id, outcome, scope, extension_attributes)"
    " VALUES (%s, %s, 0, true, 'Pending', NULL, NULL, NULL, NULL, NULL, NULL, false, NULL, NULL, 0, '[]',"
    " NULL, NULL, NULL, '[]', '{}')"
)
SCHEDULE = (
    "INSERT INTO wfc.scheduled_commands (command_name, data, execute_time) VALUES ('ProcessWorkflow', 'w', %s)"
    " ON CONFLICT (command_name, data) DO UPDATE SET execute_time = %s"
)


def pointers_of(sql: Sql, workflow_id: str) -> list[str]:
    rows = sql("SELECT id FROM wfc.execution_pointers WHERE workflow_id = %s ORDER BY position, id", [workflow_id])
    return [pointer_id for (pointer_id,) in rows]


def test_inserted_workflows_have_distinct_revisions(sql: Sql) -> None:
    for number in range(50):
        sql(NEW_WORKFLOW, [f"w{number}", f"name {number}"])
    revisions = {revision for (revision,) in sql("SELECT revision FROM wfc.workflows")}
    assert len(revisions) == 50
    assert all(0 <= revision < 2**63 for revision in revisions)
    # Revisions are 63 random bits: the highest bit is unset in all fifty with a probability of 2**-50.
    assert any(revision >= 2**62 for revision in revisions)


@pytest.mark.parametrize("change", ["status = 'Complete'", "status = status", "id = id"])
def test_every_update_changes_the_revision(sql: Sql, change: str) -> None:
    sql(NEW_WORKFLOW, ["w", "w"])
    seen = sql("SELECT revision FROM wfc.workflows")
    for _ in range(5):
        sql(f"UPDATE wfc.workflows SET {change} WHERE id = 'w'")
        now = sql("SELECT revision FROM wfc.workflows")
        assert now[0] not in seen
        seen += now


def test_update_with_explicit_revision_keeps_it(sql: Sql) -> None:
    sql(NEW_WORKFLOW, ["w", "w"])
    sql("UPDATE wfc.workflows SET revision = 5")
    assert sql("SELECT revision FROM wfc.workflows") == [(5,)]


def test_revision_trigger_does_not_depend_on_search_path(sql: Sql) -> None:
    sql(NEW_WORKFLOW, ["w", "w"])
    sql("UPDATE wfc.workflows SET revision = 5")
    sql("CREATE SCHEMA evil")
    sql("CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE sql AS $$ SELECT NULL::uuid $$")
    sql("CREATE FUNCTION evil.left(text, int) RETURNS text LANGUAGE sql AS $$ SELECT NULL $$")
    sql("SET search_path = evil, pg_catalog")
    sql("UPDATE wfc.workflows SET status = 'Complete'")
    sql(NEW_WORKFLOW, ["w2", "w2"])
    assert sql("SELECT revision <> 5 FROM wfc.workflows ORDER BY id") == [(True,), (True,)]


def test_pointers_are_ordered_by_insertion(sql: Sql) -> None:
    sql(NEW_WORKFLOW, ["w", "w"])
    for pointer_id in "cab":
        sql(NEW_POINTER, [pointer_id, "w"])
    assert pointers_of(sql, "w") == ["c", "a", "b"]

    sql("DELETE FROM wfc.execution_pointers WHERE workflow_id = 'w'")
    for pointer_id in "bxca":
        sql(NEW_POINTER, [pointer_id, "w"])
    assert pointers_of(sql, "w") == ["b", "x", "c", "a"]


def test_two_workflows_may_use_the_same_pointer_id(sql: Sql) -> None:
    for workflow_id in ("w1", "w2"):
        sql(NEW_WORKFLOW, [workflow_id, workflow_id])
        sql(NEW_POINTER, ["p", workflow_id])
    assert (pointers_of(sql, "w1"), pointers_of(sql, "w2")) == (["p"], ["p"])


def test_rescheduled_command_is_one_row(sql: Sql) -> None:
    sql(SCHEDULE, [1, 1])
    sql(SCHEDULE, [2, 2])
    query = "SELECT execute_time, claim, claimed_until, rescheduled FROM wfc.scheduled_commands"
    assert sql(query) == [(2, None, None, False)]


@pytest.mark.parametrize("due", [7, 9])
def test_rescheduling_claimed_command_sets_rescheduled(sql: Sql, due: int) -> None:
    sql(SCHEDULE, [7, 7])
    sql("UPDATE wfc.scheduled_commands SET claim = 1, claimed_until = now()")
    assert sql("SELECT rescheduled FROM wfc.scheduled_commands") == [(False,)]
    sql(SCHEDULE, [due, due])
    assert sql("SELECT execute_time, claim, rescheduled FROM wfc.scheduled_commands") == [(due, 1, True)]
    sql("UPDATE wfc.scheduled_commands SET claim = 2, rescheduled = false")
    assert sql("SELECT claim, rescheduled FROM wfc.scheduled_commands") == [(2, False)]


def test_inserted_errors_and_sequence_numbers_are_consecutive(sql: Sql) -> None:
    error = "INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message) VALUES "
    sql(error + "(now(), 'w', 'p', 'm'), (now(), 'w', 'p', 'm')")
    assert sql("SELECT id, nonce FROM wfc.execution_errors ORDER BY id") == [(1, None), (2, None)]
    next_number = (
        "INSERT INTO wfc.definition_sequences (definition_id, next_num) VALUES ('order', 1)"
        " ON CONFLICT (definition_id) DO UPDATE SET next_num = wfc.definition_sequences.next_num + 1 RETURNING next_num"
    )
    assert [sql(next_number) for _ in range(3)] == [[(1,)], [(2,)], [(3,)]]
