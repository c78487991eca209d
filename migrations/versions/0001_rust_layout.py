"""Lay out the Rust provider's seven tables, or adopt them where a Rust host has created them.

Older Rust layouts are completed: `workflows` without `name` (it becomes the id), `root_workflow_id` or
`last_heartbeat_at`, a unique index on the name instead of the constraint, tables or indexes that are not
there yet. Any other difference is refused before anything is changed, and so is a column that no Rust layout
has: a save here knows nothing of it and would lose what another program put there. More indexes than the
layout has are welcome, unless they are unique and could so refuse a row.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Types and defaults as PostgreSQL itself writes them, because the same lines are compared with its catalogue.
TABLES = {
    "workflows": {
        "id": "text NOT NULL",
        "name": "text NOT NULL",
        "root_workflow_id": "text",
        "definition_id": "text NOT NULL",
        "version": "integer NOT NULL",
        "description": "text",
        "reference": "text",
        "status": "text NOT NULL",
        "data": "jsonb NOT NULL DEFAULT '{}'::jsonb",
        "next_execution": "bigint",
        "create_time": "timestamp with time zone NOT NULL",
        "complete_time": "timestamp with time zone",
        "last_heartbeat_at": "timestamp with time zone",
    },
    "execution_pointers": {
        "id": "text NOT NULL",
        "workflow_id": "text NOT NULL",
        "step_id": "integer NOT NULL",
        "active": "boolean NOT NULL DEFAULT true",
        "status": "text NOT NULL",
        "sleep_until": "timestamp with time zone",
        "persistence_data": "jsonb",
        "start_time": "timestamp with time zone",
        "end_time": "timestamp with time zone",
        "event_name": "text",
        "event_key": "text",
        "event_published": "boolean DEFAULT false",
        "event_data": "jsonb",
        "step_name": "text",
        "retry_count": "integer DEFAULT 0",
        "children": "jsonb DEFAULT '[]'::jsonb",
        "context_item": "jsonb",
        "predecessor_id": "text",
        "outcome": "jsonb",
        "scope": "jsonb DEFAULT '[]'::jsonb",
        "extension_attributes": "jsonb DEFAULT '{}'::jsonb",
    },
    "events": {
        "id": "text NOT NULL",
        "event_name": "text NOT NULL",
        "event_key": "text NOT NULL",
        "event_data": "jsonb NOT NULL DEFAULT 'null'::jsonb",
        "event_time": "timestamp with time zone NOT NULL",
        "is_processed": "boolean DEFAULT false",
    },
    "event_subscriptions": {
        "id": "text NOT NULL",
        "workflow_id": "text NOT NULL",
        "step_id": "integer NOT NULL",
        "execution_pointer_id": "text NOT NULL",
        "event_name": "text NOT NULL",
        "event_key": "text NOT NULL",
        "subscribe_as_of": "timestamp with time zone NOT NULL",
        "subscription_data": "jsonb",
        "external_token": "text",
        "external_worker_id": "text",
        "external_token_expiry": "timestamp with time zone",
    },
    "execution_errors": {
        "id": "serial",
        "error_time": "timestamp with time zone NOT NULL",
        "workflow_id": "text NOT NULL",
        "execution_pointer_id": "text NOT NULL",
        "message": "text NOT NULL",
    },
    "scheduled_commands": {
        "id": "serial",
        "command_name": "text NOT NULL",
        "data": "text NOT NULL",
        "execute_time": "bigint NOT NULL",
    },
    "definition_sequences": {
        "definition_id": "text NOT NULL",
        "next_num": "bigint NOT NULL",
    },
}
CONSTRAINTS = {
    "workflows": {"workflows_pkey": "PRIMARY KEY (id)", "workflows_name_key": "UNIQUE (name)"},
    "execution_pointers": {
        "execution_pointers_pkey": "PRIMARY KEY (id)",
        "execution_pointers_workflow_id_fkey": "FOREIGN KEY (workflow_id) REFERENCES {schema}.workflows(id)",
    },
    "events": {"events_pkey": "PRIMARY KEY (id)"},
    "event_subscriptions": {"event_subscriptions_pkey": "PRIMARY KEY (id)"},
    "execution_errors": {"execution_errors_pkey": "PRIMARY KEY (id)"},
    "scheduled_commands": {
        "scheduled_commands_pkey": "PRIMARY KEY (id)",
        "scheduled_commands_command_name_data_key": "UNIQUE (command_name, data)",
    },
    "definition_sequences": {"definition_sequences_pkey": "PRIMARY KEY (definition_id)"},
}
INDEXES = {
    "workflows": {
        "idx_workflows_next_execution": "(next_execution)",
        "idx_workflows_status": "(status)",
    },
    "events": {
        "idx_events_name_key": "(event_name, event_key)",
        "idx_events_is_processed": "(is_processed)",
        "idx_events_event_time": "(event_time)",
    },
    "event_subscriptions": {
        "idx_subscriptions_name_key": "(event_name, event_key)",
        "idx_subscriptions_workflow": "(workflow_id)",
    },
    "scheduled_commands": {"idx_scheduled_commands_execute_time": "(execute_time)"},
}
# What an older Rust layout may lack, and `COMPLETE` adds.
OPTIONAL = ("name", "root_workflow_id", "last_heartbeat_at", "workflows_name_key")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def expected(schema: str) -> str:
    """The layout as rows of VALUES: what kind of thing, of which table, its name, its definition."""
    rows = [("table", table, table, "table") for table in TABLES]
    for table, columns in TABLES.items():
        serial = f"integer NOT NULL DEFAULT nextval('{schema}.{table}_id_seq'::regclass)"
        rows += [("column", table, name, serial if it == "serial" else it) for name, it in columns.items()]
    for table, constraints in CONSTRAINTS.items():
        rows += [("constraint", table, name, it.format(schema=schema)) for name, it in constraints.items()]
    for table, indexes in INDEXES.items():
        made = f"CREATE INDEX {{name}} ON {schema}.{table} USING btree "
        rows += [("index", table, name, made.format(name=name) + it) for name, it in indexes.items()]
    return ",\n      ".join(f"({', '.join(map(literal, row))})" for row in rows)


# A table that is not there is no difference, and neither is an index: both are created next.
REFUSE_OTHER_LAYOUTS = """
DO $layout$
DECLARE
  differences text;
BEGIN
  WITH expected (kind, owner, name, definition) AS (VALUES
      {expected}
  ), relation AS (
    SELECT c.oid, c.relname::text AS owner, c.relkind
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = '{schema}' AND c.relname::text IN (SELECT owner FROM expected)
  ), found (kind, owner, name, definition) AS (
    SELECT 'table', owner, owner,
           CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'p' THEN 'partitioned table'
                        WHEN 'f' THEN 'foreign table' ELSE 'relation of kind ' || relkind::text END
      FROM relation
     UNION ALL
    SELECT 'column', owner, attname::text,
           format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
           || CASE WHEN attidentity <> '' THEN ' GENERATED AS IDENTITY' ELSE '' END
           || CASE WHEN attgenerated <> '' THEN ' GENERATED ALWAYS AS ' WHEN d.oid IS NULL THEN ''
                   ELSE ' DEFAULT ' END
           || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
      FROM relation JOIN pg_attribute a ON a.attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE relkind = 'r'
     UNION ALL
    SELECT 'constraint', owner, conname::text, pg_get_constraintdef(c.oid)
      FROM relation JOIN pg_constraint c ON c.conrelid = relation.oid AND contype IN ('p', 'u', 'f', 'c', 'x')
     UNION ALL
    SELECT 'index', owner, c.relname::text,
           pg_get_indexdef(i.indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' (invalid)' END
      FROM relation JOIN pg_index i ON i.indrelid = relation.oid JOIN pg_class c ON c.oid = i.indexrelid
     WHERE NOT EXISTS (SELECT FROM pg_constraint o
                        WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
  ), difference AS (
    SELECT kind, owner, name, expected.definition AS wanted, found.definition AS there
      FROM expected FULL JOIN found USING (kind, owner, name)
     WHERE expected.definition IS DISTINCT FROM found.definition
       AND owner IN (SELECT relation.owner FROM relation)
  )
  SELECT string_agg(
           CASE WHEN kind = 'table' THEN owner ELSE kind || ' ' || owner || '.' || name END
           || CASE WHEN there IS NULL THEN ' is missing' WHEN wanted IS NULL THEN ' is unknown: ' || there
                   ELSE ' is "' || there || '" instead of "' || wanted || '"' END,
           '; ' ORDER BY kind <> 'table', owner, kind, name)
    INTO differences
    FROM difference d
   WHERE (kind = 'table' OR owner IN (SELECT relation.owner FROM relation WHERE relkind = 'r'))
     AND NOT (there IS NULL AND (kind = 'index' OR owner = 'workflows' AND name IN ({optional})))
     AND NOT (wanted IS NULL AND kind = 'index'
              AND (there NOT LIKE 'CREATE UNIQUE INDEX' || chr(37) OR there = {name_index}))
     AND NOT (kind = 'column' AND owner = 'workflows' AND name = 'name' AND there = 'text');
  IF differences IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'WFE01',
      MESSAGE = 'the tables in schema {schema} are not a layout of the WFE engine: ' || differences;
  END IF;
END
$layout$
"""

COMPLETE = """
DO $complete$
DECLARE
  workflows regclass := to_regclass('{schema}.workflows');
BEGIN
  IF workflows IS NULL THEN
    RETURN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_attribute
                  WHERE attrelid = workflows AND attname = 'name' AND attnotnull AND NOT attisdropped) THEN
    ALTER TABLE {schema}.workflows ADD COLUMN IF NOT EXISTS name text;
    UPDATE {schema}.workflows SET name = id WHERE name IS NULL;
    ALTER TABLE {schema}.workflows ALTER COLUMN name SET NOT NULL;
  END IF;
  IF 2 > (SELECT count(*) FROM pg_attribute
           WHERE attrelid = workflows AND attname IN ('root_workflow_id', 'last_heartbeat_at')
             AND NOT attisdropped) THEN
    ALTER TABLE {schema}.workflows ADD COLUMN IF NOT EXISTS root_workflow_id text,
      ADD COLUMN IF NOT EXISTS last_heartbeat_at timestamp with time zone;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_constraint
                  WHERE conrelid = workflows AND conname = 'workflows_name_key') THEN
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = workflows
                  AND pg_get_indexdef(indexrelid) = {name_index}) THEN
      ALTER TABLE {schema}.workflows
        ADD CONSTRAINT workflows_name_key UNIQUE USING INDEX idx_workflows_name;
    ELSE
      ALTER TABLE {schema}.workflows ADD CONSTRAINT workflows_name_key UNIQUE (name);
    END IF;
  END IF;
END
$complete$
"""

# CREATE INDEX IF NOT EXISTS would wait for writers even where there is nothing to do.
INDEX = """
DO $index$
BEGIN
  IF to_regclass('{schema}.{name}') IS NULL THEN
    CREATE INDEX {name} ON {schema}.{table} {columns};
  END IF;
END
$index$
"""

REFUSE_ROWS = """
DO $rows$
DECLARE
  filled text;
BEGIN
  SELECT string_agg(name, ', ') INTO filled FROM ({counts}) AS tables (name, holds_rows) WHERE holds_rows;
  IF filled IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'WFE01',
      MESSAGE = 'downgrade base drops the tables only when they are empty; these hold rows: ' || filled;
  END IF;
END
$rows$
"""


def upgrade() -> None:
    schema = str(op.get_context().version_table_schema)
    name_index = literal(f"CREATE UNIQUE INDEX idx_workflows_name ON {schema}.workflows USING btree (name)")
    optional = ", ".join(map(literal, OPTIONAL))
    op.execute(
        REFUSE_OTHER_LAYOUTS.format(schema=schema, expected=expected(schema), optional=optional, name_index=name_index)
    )
    op.execute(COMPLETE.format(schema=schema, name_index=name_index))
    for table, columns in TABLES.items():
        lines = [f"{name} {definition}" for name, definition in columns.items()]
        lines += [f"CONSTRAINT {name} {it.format(schema=schema)}" for name, it in CONSTRAINTS[table].items()]
        op.execute(f"CREATE TABLE IF NOT EXISTS {schema}.{table} ({', '.join(lines)})")
    for table, indexes in INDEXES.items():
        for name, columns_of_index in indexes.items():
            op.execute(INDEX.format(schema=schema, name=name, table=table, columns=columns_of_index))
    # Whoever may use the store may ask how old it is.
    op.execute(f"GRANT SELECT ON {schema}.{op.get_context().version_table} TO PUBLIC")


def downgrade() -> None:
    """Drop the seven tables if all are empty.

    The schema stays, and Alembic's version table (empty) in it: a DBA may have made the schema, with
    grants of its own, for a role that could not make it again.
    """
    schema = op.get_context().version_table_schema
    tables = ", ".join(f"{schema}.{table}" for table in TABLES)
    counts = " UNION ALL ".join(f"SELECT '{table}', EXISTS (SELECT FROM {schema}.{table})" for table in TABLES)
    op.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
    op.execute(REFUSE_ROWS.format(counts=counts))
    op.execute(f"DROP TABLE {tables}")
