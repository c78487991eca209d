"""Give errors a nonce, by which a repeated insert is told from a second error."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"ALTER TABLE {schema}.execution_errors ADD COLUMN nonce bigint")


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"ALTER TABLE {schema}.execution_errors DROP COLUMN nonce")
