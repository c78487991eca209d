"""Each statement finds what it needs by an index, in a large store as in a small one.

Looked at with the values in sight and without (a prepared statement's generic plan), and by what was really read:
an index that is read from one end to the other is no better than the table. Exempt are the statistics, which
count, the look for a claim whose answer was lost, and what is read of PostgreSQL's own catalogue.
"""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Executable

from tests.query_plans.cases import CASES, Case
from tests.query_plans.explain import Mode, Plan, explain
from tests.query_plans.filling import TABLES, filled_database
from wfe_postgres.statements import commands, errors, events, maintenance, queries, subscriptions, workflows

EXEMPT = {"queries.STATISTICS", "commands.CLAIMED", "maintenance.REFERENCING_TABLES"}
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
    """Run the statement, a save under the stamp that the workflow has."""
    values = dict(case.values)
    if "expected_revision" in values:
        row = store.execute("SELECT revision FROM wfc.workflows WHERE id = %s", [values["workflow_id"]]).fetchone()
        values["expected_revision"] = row and row[0]
    return explain(store, case.statement, values, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_statement_reads_what_it_needs(store: psycopg.Connection, case: Case, mode: Mode) -> None:
    plan = run(store, case, mode)
    assert not plan.scanned & set(TABLES), plan.text
    assert case.indexes <= plan.indexes, plan.text
    assert plan.rows <= case.rows, plan.text


@pytest.mark.parametrize("mode", MODES)
def test_a_save_costs_what_has_changed(store: psycopg.Connection, mode: Mode) -> None:
    """Not what the workflow has: neither what is read nor what is written grows with the number of its pointers."""
    [case] = [case for case in CASES if case.name == "persist_workflow"]
    # The least of three, because pages are logged whole when they are changed for the first time after a checkpoint.
    with_few, *_ = sorted((run(store, case, mode) for _ in range(3)), key=lambda plan: plan.written)
    with store.transaction(force_rollback=True):
        store.execute(MORE_POINTERS)
        with_many, *_ = sorted((run(store, case, mode) for _ in range(3)), key=lambda plan: plan.written)
    assert with_many.rows <= with_few.rows + 10
    assert 0 < with_many.written < 1.5 * with_few.written


def test_every_statement_is_looked_at() -> None:
    """Nobody adds one without saying what it may read."""
    looked_at = [case.statement for case in CASES]
    missing = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in (commands, errors, events, maintenance, queries, subscriptions, workflows)
        for name, statement in vars(module).items()
        if isinstance(statement, Executable)
        and name.isupper()
        and not name.startswith("_")
        and all(statement is not it for it in looked_at)
    }
    assert missing == EXEMPT


# The layout that a Rust host expects; not ours to leave out.
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


def test_every_index_of_ours_is_used(store: psycopg.Connection) -> None:
    """An index that none of the statements needs only costs."""
    found = {name for (name,) in store.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'wfc'")}
    needed = set().union(*(case.indexes for case in CASES))
    assert needed <= found
    assert {name for name in found - needed if name not in RUST_INDEXES} == set()
