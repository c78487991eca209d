"""Index what hosts that know their definitions poll for, events of one name and key by time, prefixes, and families."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# No index has `last_heartbeat_at`, which changes with every save: a save that changes no indexed column stays a HOT
# update, which writes to no index.
INDEXES = {
    # Without `id`: a host takes any of those that are due at the same time, and the entries stay small.
    "idx_workflows_runnable_definition": (
        "INDEX",
        "workflows",
        "(definition_id, version, next_execution) WHERE (status = 'Runnable') IS TRUE AND next_execution IS NOT NULL",
    ),
    # A Rust host may store a name or a reference that is too long for a B-tree, so only the beginning is in an index;
    # the operator class serves prefixes under any collation.
    "idx_workflows_name_prefix": ("INDEX", "workflows", '("left"(name, 200) text_pattern_ops)'),
    "idx_workflows_reference_prefix": (
        "INDEX",
        "workflows",
        '("left"(reference, 200) text_pattern_ops) WHERE reference IS NOT NULL',
    ),
    # The members of families that have not ended: few, where the index on the root has all that there ever were. On an
    # expression, so that the planner cannot take that one.
    "idx_workflows_open_members": (
        "INDEX",
        "workflows",
        "USING hash (coalesce(root_workflow_id, id))"
        " WHERE root_workflow_id IS NOT NULL AND status NOT IN ('Complete', 'Terminated')",
    ),
    # The statements name the collation, because beside the index of the Rust layout on name and key the planner would
    # take the shorter one, and read all events of a name and key.
    "idx_events_name_key_time": ("INDEX", "events", '(event_name COLLATE "C", event_key COLLATE "C", event_time)'),
}


def upgrade() -> None:
    """The indexes are built as in revision 0006."""
    context = op.get_context()
    context.script.get_revision("0006").module.build(str(context.version_table_schema), INDEXES)  # type: ignore[union-attr]


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    for name in INDEXES:
        op.execute(f"DROP INDEX {schema}.{name}")
