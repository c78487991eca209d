"""Create the tables of the services that hosts can share: locks, and what lifecycle notifications cannot carry."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE {schema}.lock_leases (
  resource text CONSTRAINT lock_leases_pkey PRIMARY KEY,
  holder bigint NOT NULL,
  acquired_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE IF NOT EXISTS {schema}.lock_tokens;
CREATE TABLE {schema}.lifecycle_payloads (
  id bigserial CONSTRAINT lifecycle_payloads_pkey PRIMARY KEY,
  payload text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
)
"""


def upgrade() -> None:
    """No column owns the sequence: fencing numbers must not begin anew when the table is emptied."""
    for statement in TABLES.format(schema=op.get_context().version_table_schema).split(";"):
        op.execute(statement)


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"DROP TABLE {schema}.lock_leases, {schema}.lifecycle_payloads")
    op.execute(f"DROP SEQUENCE {schema}.lock_tokens")
