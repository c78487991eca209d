"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_context().version_table_schema
    ${upgrades if upgrades else 'op.execute(f"ALTER TABLE {schema}.workflows ...")'}


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    ${downgrades if downgrades else 'op.execute(f"ALTER TABLE {schema}.workflows ...")'}
