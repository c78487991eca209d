"""Let a Rust host, whose SELECT has no ORDER BY, read the pointers of a workflow in their stored order.

The planner serves its `WHERE workflow_id = $1` by the one index that begins with `workflow_id`. While that was the
primary key, `(workflow_id, id)`, the pointers came in the order of their random ids.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEXES = {
    "execution_pointers_key": ("UNIQUE INDEX", "execution_pointers", "(id, workflow_id)"),
    "idx_execution_pointers_position": ("INDEX", "execution_pointers", "(workflow_id, position)"),
}
# Beyond all positions that a save assigns, so that a row for which an INSERT names no position comes last.
FIRST_OF_SEQUENCE = 2**62
KEY = (
    "ALTER TABLE {schema}.execution_pointers DROP CONSTRAINT execution_pointers_pkey,"
    " ADD CONSTRAINT execution_pointers_pkey PRIMARY KEY {key}"
)


def upgrade() -> None:
    """The indexes are built as in revision 0006; the key is then replaced without another look at the rows."""
    context = op.get_context()
    schema = str(context.version_table_schema)
    context.script.get_revision("0006").module.build(schema, INDEXES)  # type: ignore[union-attr]
    op.execute(KEY.format(schema=schema, key="USING INDEX execution_pointers_key"))
    sequence = f"{schema}.execution_pointers_position_seq"
    op.execute(f"ALTER SEQUENCE {sequence} START WITH {FIRST_OF_SEQUENCE}")
    op.execute(
        f"DO $$ BEGIN PERFORM setval('{sequence}', {FIRST_OF_SEQUENCE}, false) FROM {sequence}"
        f" WHERE last_value < {FIRST_OF_SEQUENCE}; END $$"
    )


def downgrade() -> None:
    """The sequence goes on from where it is, because there are rows with its numbers."""
    schema = str(op.get_context().version_table_schema)
    op.execute(KEY.format(schema=schema, key="(workflow_id, id)"))
    op.execute(f"DROP INDEX {schema}.idx_execution_pointers_position")
    op.execute(f"ALTER SEQUENCE {schema}.execution_pointers_position_seq START WITH 1")
