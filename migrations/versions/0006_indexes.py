"""Index what is asked for, and make a pointer's id unique within its workflow instead of everywhere."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# name: (kind, table, what follows it). Some predicates look roundabout so that the planner, which misjudges how many
# rows a status or a definition has, cannot take another index: `(x = y) IS TRUE` is not served by one on x, and
# `id >= ''`, always true, keeps the index on the time alone out of queries that do not say it.
INDEXES = {
    "execution_pointers_identity": ("UNIQUE INDEX", "execution_pointers", "(workflow_id, id)"),
    "idx_workflows_runnable": (
        "INDEX",
        "workflows",
        "(next_execution, id) WHERE (status = 'Runnable') IS TRUE AND next_execution IS NOT NULL",
    ),
    "idx_workflows_create_time": ("INDEX", "workflows", "(create_time, id) WHERE id >= ''"),
    "idx_workflows_definition": ("INDEX", "workflows", "(definition_id, create_time)"),
    "idx_workflows_status_create_time": ("INDEX", "workflows", "(status, create_time)"),
    # Hashed, because a Rust host may store a reference that is too long for a B-tree.
    "idx_workflows_reference": ("INDEX", "workflows", "USING hash (reference) WHERE reference IS NOT NULL"),
    "idx_workflows_root": ("INDEX", "workflows", "USING hash (root_workflow_id) WHERE root_workflow_id IS NOT NULL"),
    "idx_workflows_finished": ("INDEX", "workflows", "(status, complete_time) WHERE complete_time IS NOT NULL"),
    "idx_events_unprocessed": ("INDEX", "events", "(event_time, id) WHERE (is_processed = false) IS TRUE"),
    "idx_errors_nonce": ("UNIQUE INDEX", "execution_errors", "(nonce)"),
    "idx_errors_workflow": ("INDEX", "execution_errors", "(workflow_id, error_time, id)"),
    "idx_errors_error_time": ("INDEX", "execution_errors", "(error_time, id)"),
}

# A build that was cut short left an invalid index: it makes way under another name, for which no reader or
# writer has to wait. On a small table the index is built at once: CONCURRENTLY waits for every older
# transaction in the database, a backup's too.
PREPARE = """
DO $prepare$
BEGIN
  SET LOCAL lock_timeout = '2s';
  IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{schema}.{name}') AND NOT indisvalid) THEN
    ALTER INDEX {schema}.{name} RENAME TO {name}_unfinished;
  END IF;
  IF to_regclass('{schema}.{name}') IS NULL AND pg_relation_size('{schema}.{table}') < {small} THEN
    CREATE {kind} {name} ON {schema}.{table} {definition};
  END IF;
END
$prepare$
"""
SMALL = 4 * 1024 * 1024  # bytes: some 5,000 workflows, indexed in milliseconds

REFUSE_SHARED_POINTER_IDS = """
DO $shared$
DECLARE
  shared bigint;
BEGIN
  SELECT count(*) INTO shared FROM (
    SELECT id FROM {schema}.execution_pointers GROUP BY id HAVING count(*) > 1) AS ids;
  IF shared > 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'WFE01',
      MESSAGE = 'the Rust layout wants pointer ids unique across all workflows; in execution_pointers '
                || shared || ' of them belong to more than one workflow';
  END IF;
END
$shared$
"""


def build(schema: str, indexes: dict[str, tuple[str, str, str]]) -> None:
    """Build the indexes while everybody works on; as often as it takes, since each step looks first."""
    with op.get_context().autocommit_block():
        for name, (kind, table, definition) in indexes.items():
            made = {"schema": schema, "name": name, "kind": kind, "table": table, "definition": definition}
            op.execute(PREPARE.format(**made, small=SMALL))
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}_unfinished")
            op.execute(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {name} ON {schema}.{table} {definition}")


def upgrade() -> None:
    schema = str(op.get_context().version_table_schema)
    build(schema, INDEXES)
    op.execute(
        f"ALTER TABLE {schema}.execution_pointers DROP CONSTRAINT execution_pointers_pkey,"
        " ADD CONSTRAINT execution_pointers_pkey PRIMARY KEY USING INDEX execution_pointers_identity"
    )


def downgrade() -> None:
    """Give the pointers their old key back if it still fits, with every table locked before it looks."""
    schema = op.get_context().version_table_schema
    op.execute(
        f"LOCK TABLE {schema}.workflows, {schema}.execution_pointers, {schema}.events,"
        f" {schema}.event_subscriptions, {schema}.execution_errors, {schema}.scheduled_commands,"
        f" {schema}.definition_sequences IN ACCESS EXCLUSIVE MODE"
    )
    op.execute(REFUSE_SHARED_POINTER_IDS.format(schema=schema))
    op.execute(
        f"ALTER TABLE {schema}.execution_pointers DROP CONSTRAINT execution_pointers_pkey,"
        " ADD CONSTRAINT execution_pointers_pkey PRIMARY KEY (id)"
    )
    for name in INDEXES:
        if name != "execution_pointers_identity":  # it became the primary key
            op.execute(f"DROP INDEX {schema}.{name}")
