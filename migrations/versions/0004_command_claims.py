"""Let hosts share scheduled commands under a lease, and notice a command scheduled again meanwhile."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The trigger marks a claimed command when anybody else touches it, also for the same due time."""
    schema = op.get_context().version_table_schema
    op.execute(
        f"ALTER TABLE {schema}.scheduled_commands ADD COLUMN claim bigint,"
        " ADD COLUMN claimed_until timestamp with time zone,"
        " ADD COLUMN rescheduled boolean NOT NULL DEFAULT false"
    )
    op.execute(f"""
CREATE OR REPLACE FUNCTION {schema}.mark_command_rescheduled() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $mark$
BEGIN
  NEW.rescheduled := true;
  RETURN NEW;
END
$mark$
""")
    op.execute(
        f"CREATE TRIGGER scheduled_commands_mark_rescheduled BEFORE UPDATE ON {schema}.scheduled_commands"
        " FOR EACH ROW WHEN (OLD.claim IS NOT NULL AND NEW.claim IS NOT DISTINCT FROM OLD.claim)"
        f" EXECUTE FUNCTION {schema}.mark_command_rescheduled()"
    )


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"DROP TRIGGER scheduled_commands_mark_rescheduled ON {schema}.scheduled_commands")
    op.execute(f"DROP FUNCTION {schema}.mark_command_rescheduled()")
    op.execute(
        f"ALTER TABLE {schema}.scheduled_commands DROP COLUMN claim, DROP COLUMN claimed_until, DROP COLUMN rescheduled"
    )
