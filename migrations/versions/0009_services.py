"""Create the tables of the services that hosts can share: locks, a queue, and long lifecycle notifications."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.lock_leases (
  resource text CONSTRAINT lock_leases_pkey PRIMARY KEY,
  holder bigint NOT NULL,
  acquired_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE IF NOT EXISTS {schema}.lock_tokens;
CREATE TABLE IF NOT EXISTS {schema}.lifecycle_payloads (
  id bigserial CONSTRAINT lifecycle_payloads_pkey PRIMARY KEY,
  payload text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS {schema}.work_queue (
  queue text NOT NULL,
  position bigserial,
  id text NOT NULL,
  queued_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT work_queue_pkey PRIMARY KEY (queue, position)
) WITH (vacuum_truncate = false);
CREATE INDEX IF NOT EXISTS idx_work_queue_id ON {schema}.work_queue (id)
"""

# The planner's statistics of a queue are wrong most of the time: a table that was empty a second ago has 100,000 rows
# now, and a plan that reads and sorts all of them stays in use until the next ANALYZE. In these functions it has no
# choice but one index for each look: what is compared with `queue || ''` is not looked for by the primary key.
QUEUE_WORK = """
CREATE OR REPLACE FUNCTION {schema}.queue_work(queue_name text, work_id text, channel text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $function$
DECLARE
  place bigint;
BEGIN
  IF EXISTS (SELECT FROM {schema}.work_queue w WHERE w.id = work_id AND w.queue || '' = queue_name) THEN
    RETURN;
  END IF;
  INSERT INTO {schema}.work_queue (queue, id) VALUES (queue_name, work_id) RETURNING position INTO place;
  -- Whoever takes what was queued just before looks again. Not "is there any": behind an empty queue lie all rows that
  -- were taken since the last vacuum.
  IF channel IS NOT NULL AND NOT EXISTS (
    SELECT FROM {schema}.work_queue w
     WHERE w.queue = queue_name AND w.position > place - 100 AND w.position < place) THEN
    PERFORM pg_notify(channel, queue_name);
  END IF;
END
$function$
"""
TAKE_WORK = """
CREATE OR REPLACE FUNCTION {schema}.take_work(queue_name text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $function$
DECLARE
  work_id text;
BEGIN
  -- An id that several transactions have queued has several rows. It is taken with the first one, never with another.
  WITH taken AS (
    DELETE FROM {schema}.work_queue t
     WHERE t.queue || '' = queue_name AND t.id = (
       SELECT w.id
         FROM {schema}.work_queue w
        WHERE w.queue = queue_name AND w.position = (
          SELECT min(f.position) FROM {schema}.work_queue f WHERE f.id = w.id AND f.queue || '' = w.queue)
        ORDER BY w.position
        LIMIT 1
          FOR UPDATE SKIP LOCKED)
    RETURNING t.id
  )
  SELECT taken.id INTO work_id FROM taken LIMIT 1;
  RETURN work_id;
END
$function$
"""


def upgrade() -> None:
    """No column owns the sequence: fencing numbers must not begin anew when the table is emptied."""
    schema = op.get_context().version_table_schema
    for statement in (*TABLES.split(";"), QUEUE_WORK, TAKE_WORK):
        op.execute(statement.format(schema=schema))


def downgrade() -> None:
    schema = op.get_context().version_table_schema
    op.execute(f"DROP TABLE {schema}.lock_leases, {schema}.lifecycle_payloads, {schema}.work_queue")
    op.execute(f"DROP FUNCTION {schema}.queue_work, {schema}.take_work")
    op.execute(f"DROP SEQUENCE {schema}.lock_tokens")
