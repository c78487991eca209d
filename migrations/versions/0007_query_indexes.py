"""Index what hosts that know their definitions poll for, events of one name and key by time, and prefixes."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Without `id`: a host takes any of those that are due at the same time, and the entries stay small. A Rust host may
# store a name or a reference that is too long for a B-tree, so only the beginning is in an index; the operator class
# serves prefixes under any collation.
INDEXES = {
    "idx_workflows_runnable_definition": (
        "workflows",
        "(definition_id, version, next_execution) WHERE (status = 'Runnable') IS TRUE AND next_execution IS NOT NULL",
    ),
    "idx_events_name_key_time": ("events", "(event_name, event_key, event_time)"),
    "idx_workflows_name_prefix": ("workflows", '("left"(name, 200) text_pattern_ops)'),
    "idx_workflows_reference_prefix": (
        "workflows",
        '("left"(reference, 200) text_pattern_ops) WHERE reference IS NOT NULL',
    ),
}

# As in 0006: an invalid index of an interrupted build makes way, and a small table is indexed at once, because
# CONCURRENTLY waits for every older transaction in the database.
PREPARE = """
DO $prepare$
BEGIN
  SET LOCAL lock_timeout = '2s';
  IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{schema}.{name}') AND NOT indisvalid) THEN
    ALTER INDEX {schema}.{name} RENAME TO {name}_unfinished;
  END IF;
  IF to_regclass('{schema}.{name}') IS NULL AND pg_relation_size('{schema}.{table}') < {small} THEN
    CREATE INDEX {name} ON {schema}.{table} {definition};
  END IF;
END
$prepare$
"""
SMALL = 4 * 1024 * 1024  # bytes


# Beside an index on name and key alone the planner would take that one, and read all events of a name and key. So the
# longer one takes its name, under which a Rust host finds it at every start.
REPLACE = """
DO $replace$
BEGIN
  SET LOCAL lock_timeout = '2s';
  DROP INDEX {schema}.idx_events_name_key;
  ALTER INDEX {schema}.idx_events_name_key_time RENAME TO idx_events_name_key;
END
$replace$
"""


def upgrade() -> None:
    """Build the indexes while everybody works on; as often as it takes, since each step looks first."""
    schema = op.get_context().version_table_schema
    with op.get_context().autocommit_block():
        for name, (table, definition) in INDEXES.items():
            made = {"schema": schema, "name": name, "table": table, "definition": definition}
            op.execute(PREPARE.format(**made, small=SMALL))
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}_unfinished")
            op.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {schema}.{table} {definition}")
    op.execute(REPLACE.format(schema=schema))


def downgrade() -> None:
    """Drop the indexes, and index events by name and key alone again."""
    schema = op.get_context().version_table_schema
    op.execute(f"DROP INDEX {schema}.idx_events_name_key")
    op.execute(f"CREATE INDEX idx_events_name_key ON {schema}.events (event_name, event_key)")
    for name in INDEXES:
        if name != "idx_events_name_key_time":  # it took the name of the one that it replaced
            op.execute(f"DROP INDEX {schema}.{name}")
