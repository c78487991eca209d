"""Remember the order in which pointers were stored."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A Rust host whose role may insert pointers, and no more, needs the sequence from now on.
GRANT_SEQUENCE = """
DO $grant$
DECLARE
  writer text;
BEGIN
  FOR writer IN
    SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(acl.grantee)) END
      FROM pg_class c, aclexplode(c.relacl) acl
     WHERE c.oid = '{schema}.execution_pointers'::regclass AND acl.privilege_type = 'INSERT'
  LOOP
    EXECUTE 'GRANT USAGE ON SEQUENCE {schema}.execution_pointers_position_seq TO ' || writer;
  END LOOP;
END
$grant$
"""


def upgrade() -> None:
    """Pointers that were there before come first, all at position 0.

    One ALTER with a constant default for them and a volatile one for those to come rewrites nothing.
    """
    schema = op.get_context().version_table_schema
    op.execute(f"CREATE SEQUENCE {schema}.execution_pointers_position_seq AS bigint")
    op.execute(
        f"ALTER TABLE {schema}.execution_pointers ADD COLUMN position bigint NOT NULL DEFAULT 0,"
        f" ALTER COLUMN position SET DEFAULT nextval('{schema}.execution_pointers_position_seq')"
    )
    op.execute(f"ALTER SEQUENCE {schema}.execution_pointers_position_seq OWNED BY {schema}.execution_pointers.position")
    op.execute(GRANT_SEQUENCE.format(schema=schema))


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"ALTER TABLE {schema}.execution_pointers DROP COLUMN position")
