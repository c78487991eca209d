"""Stamp every change of a workflow, whoever makes it, with a number that is never used twice."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# 64 random bits of a version 4 UUID (the fixed ones lie between them) without the sign.
RANDOM = (
    "('x' || pg_catalog.left(pg_catalog.gen_random_uuid()::text, 8)"
    " || pg_catalog.right(pg_catalog.gen_random_uuid()::text, 8))::bit(64)::bigint & 9223372036854775807"
)


def upgrade() -> None:
    """Workflows that were there before are at revision 0 until their next change; nothing is rewritten."""
    schema = op.get_context().version_table_schema
    op.execute(
        f"ALTER TABLE {schema}.workflows ADD COLUMN revision bigint NOT NULL DEFAULT 0,"
        f" ALTER COLUMN revision SET DEFAULT ({RANDOM})"
    )
    op.execute(f"""
CREATE OR REPLACE FUNCTION {schema}.stamp_workflow_revision() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $stamp$
BEGIN
  NEW.revision := {RANDOM};
  RETURN NEW;
END
$stamp$
""")
    op.execute(
        f"CREATE TRIGGER workflows_stamp_revision BEFORE UPDATE ON {schema}.workflows FOR EACH ROW"
        f" WHEN (NEW.revision = OLD.revision) EXECUTE FUNCTION {schema}.stamp_workflow_revision()"
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"DROP TRIGGER workflows_stamp_revision ON {schema}.workflows")
    op.execute(f"DROP FUNCTION {schema}.stamp_workflow_revision()")
    op.execute(f"ALTER TABLE {schema}.workflows DROP COLUMN revision")
