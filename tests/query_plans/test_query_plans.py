"""Each statement uses its indexes and reads few rows in a large store.

Checked with custom and generic plans (those of prepared statements), and by the number of rows read, because a full
index scan is no better than a sequential scan. Exempt are the statistics, which count all rows, the query for a claim
whose answer was lost, that for the server's clock, those that read all locks that are held or all that is
queued, and queries of the system catalogs.
"""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Executable

from tests.query_plans.cases import CASES
from tests.query_plans.explain import Mode, Plan, explain
from tests.query_plans.filling import TABLES, filled_database
from tests.query_plans.finds import Case
from tests.query_plans.unexpected import MANY_ROWS, UNEXPECTED_CASES
from wfe_postgres.services import lifecycle_statements, lock_statements, queue_statements
from wfe_postgres.statements import (
    commands,
    errors,
    events,
    maintenance,
    queries,
    status_changes,
    subscriptions,
    workflows,
)

STATEMENTS = (commands, errors, events, maintenance, queries, status_changes, subscriptions, workflows)

EXEMPT = {
    "commands.CLAIMED",
    "lock_statements.CLEAN",
    "lock_statements.HELD",
    "maintenance.REFERENCING_TABLES",
    "maintenance.RESTRICTING_KEYS",
    "queries.CLOCK",
    "queue_statements.DEPTHS",
}
MORE_POINTERS = """
    INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status, step_name, persistence_data)
    SELECT 'more ' || i, 'w45000', i, 'Complete', 'step', '{"tries": 1}' FROM generate_series(1, 3000) i
"""
MODES: list[Mode] = ["force_generic_plan", "force_custom_plan"]


@pytest.fixture(scope="module")
def store(server: str, template: str) -> Iterator[psycopg.Connection]:
    """A large store."""
    with filled_database(server, template) as connection:
        yield connection


def run(store: psycopg.Connection, case: Case, mode: Mode) -> Plan:
    """Execute the statement; a save gets the stored revision of the workflow."""
    values = dict(case.values)
    if "expected_revision" in values:
        row = store.execute("SELECT revision FROM wfc.workflows WHERE id = %s", [values["workflow_id"]]).fetchone()
        values["expected_revision"] = row and row[0]
    return explain(store, case.statement, values, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_statement_uses_indexes_and_reads_few_rows(store: psycopg.Connection, case: Case, mode: Mode) -> None:
    plan = run(store, case, mode)
    assert not plan.scanned & set(TABLES), plan.text
    assert case.indexes <= plan.indexes, plan.text
    assert plan.rows <= case.rows, plan.text


@pytest.mark.parametrize("mode", MODES)
def test_cost_of_save_does_not_grow_with_number_of_pointers(store: psycopg.Connection, mode: Mode) -> None:
    """Neither the rows read nor the log written grow with the number of pointers of the workflow."""
    [case] = [case for case in CASES if case.name == "persist_workflow"]
    # The minimum of three: the first change of a page after a checkpoint logs the full page.
    with_few, *_ = sorted((run(store, case, mode) for _ in range(3)), key=lambda plan: plan.written)
    with store.transaction(force_rollback=True):
        store.execute(MORE_POINTERS)
        with_many, *_ = sorted((run(store, case, mode) for _ in range(3)), key=lambda plan: plan.written)
    assert with_many.rows <= with_few.rows + 10
    assert 0 < with_many.written < 1.5 * with_few.written


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", UNEXPECTED_CASES, ids=lambda case: case.name)
def test_rows_that_the_planner_does_not_expect_are_not_all_read(
    store: psycopg.Connection, case: Case, mode: Mode
) -> None:
    """Of 30,000 rows since the last ANALYZE only as many are read as the limit says."""
    with store.transaction(force_rollback=True):
        store.execute(MANY_ROWS)
        plan = explain(store, case.statement, case.values, mode)
    assert case.indexes <= plan.indexes, plan.text
    assert plan.rows <= case.rows, plan.text


LARGE_FAMILY = """
    INSERT INTO wfc.workflows (id, name, root_workflow_id, definition_id, version, status, create_time, complete_time)
    SELECT 'member ' || i, 'member ' || i, CASE WHEN i > 0 THEN 'member 0' END, 'definition 1', 1,
           CASE i WHEN 2000 THEN 'Suspended' ELSE 'Complete' END, '2024-01-01Z', '2024-01-01Z'
      FROM generate_series(0, 2000) i
"""


@pytest.mark.parametrize("mode", MODES)
def test_purge_does_not_read_all_members_for_each_member(store: psycopg.Connection, mode: Mode) -> None:
    """Of 2,001 only one has not ended."""
    [case] = [case for case in CASES if case.name == "complete workflows, first batch"]
    with store.transaction(force_rollback=True):
        store.execute(LARGE_FAMILY)
        plan = run(store, case, mode)
    assert plan.rows <= 4 * 1000 + 10, plan.text


def test_every_statement_has_a_case() -> None:
    """Each statement of the library is in `CASES` or `EXEMPT`."""
    statements = [case.statement for case in CASES]
    missing = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in (*STATEMENTS, lifecycle_statements, lock_statements, queue_statements)
        for name, statement in vars(module).items()
        if isinstance(statement, Executable)
        and name.isupper()
        and not name.startswith("_")
        and all(statement is not it for it in statements)
    }
    assert missing == EXEMPT


# The layout that a Rust host expects; these indexes must exist even if no statement uses them.
RUST_INDEXES = {
    "workflows_pkey",
    "workflows_name_key",
    "execution_pointers_pkey",
    "events_pkey",
    "event_subscriptions_pkey",
    "execution_errors_pkey",
    "scheduled_commands_pkey",
    "scheduled_commands_command_name_data_key",
    "definition_sequences_pkey",
    "idx_workflows_next_execution",
    "idx_workflows_status",
    "idx_events_name_key",
    "idx_events_is_processed",
    "idx_events_event_time",
    "idx_subscriptions_name_key",
    "idx_subscriptions_workflow",
    "idx_scheduled_commands_execute_time",
    "alembic_version_pkc",
}
OF_FUNCTIONS = {"idx_work_queue_id", "work_queue_pkey"}
"""Used inside the queue's functions: see tests/services/test_queue_growth.py."""


def test_every_additional_index_is_used(store: psycopg.Connection) -> None:
    """Each index that this library adds is used by at least one statement."""
    found = {name for (name,) in store.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'wfc'")}
    needed = set().union(*(case.indexes for case in CASES))
    assert needed <= found
    assert {name for name in found - needed if name not in RUST_INDEXES | OF_FUNCTIONS} == set()
