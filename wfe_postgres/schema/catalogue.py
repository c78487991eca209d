"""Whether the tables, indexes, constraints, triggers and functions of a store are what they should be.

Alembic's own comparison does not see predicates, defaults and triggers, so this reads PostgreSQL's catalogue.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Engine, text

from wfe_postgres.contract.errors import StoreNotReadyError
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.revisions import (
    HEAD,
    TABLES,
    current_revision,
    database_encoding,
    describe_revision,
    read_in_transaction,
    scripts_directory,
)

_NAME_INDEX_OF_THE_RUST_HOST = "index idx_workflows_name"

_NUMBERED = ("execution_errors.id", "scheduled_commands.id", "lifecycle_payloads.id", "work_queue.position")
_LAST_NUMBER = text("""
SELECT CASE WHEN has_table_privilege(to_regclass(:table)::oid, 'SELECT')
             AND has_sequence_privilege(seqrelid, 'USAGE, SELECT')
            THEN coalesce(pg_sequence_last_value(seqrelid), seqmin - 1) END
  FROM pg_sequence WHERE seqrelid = to_regclass(:sequence)
""")

# What is there, each thing as PostgreSQL itself would write it; not-null constraints (18) stand at the columns.
_CATALOGUE = text("""
WITH relation AS (
  SELECT c.oid, c.relname::text AS name, c.relkind, c.relpersistence, c.relrowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = :schema AND c.relname::text = ANY (:tables)
)
SELECT 'table ' || name,
       CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' ELSE 'relation of kind ' || relkind::text END
       || CASE relpersistence WHEN 'u' THEN ' (unlogged)' ELSE '' END
       || CASE WHEN relrowsecurity THEN ' (with row security)' ELSE '' END
  FROM relation
 UNION ALL
SELECT 'column ' || name || '.' || attname,
       format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
       || CASE WHEN attidentity <> '' THEN ' GENERATED AS IDENTITY' ELSE '' END
       || CASE WHEN attgenerated <> '' THEN ' GENERATED ALWAYS AS ' WHEN d.oid IS NULL THEN ''
               ELSE ' DEFAULT ' END
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
  FROM relation JOIN pg_attribute a ON a.attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 UNION ALL
SELECT 'constraint ' || conname || ' of ' || name, pg_get_constraintdef(c.oid)
  FROM relation JOIN pg_constraint c ON c.conrelid = relation.oid AND contype IN ('p', 'u', 'f', 'c', 'x')
 UNION ALL
SELECT 'index ' || c.relname,
       pg_get_indexdef(i.indexrelid) || CASE WHEN indisvalid AND indisready THEN '' ELSE ' (invalid)' END
  FROM relation JOIN pg_index i ON i.indrelid = relation.oid JOIN pg_class c ON c.oid = i.indexrelid
 WHERE NOT EXISTS (SELECT FROM pg_constraint o
                    WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))
 UNION ALL
SELECT 'trigger ' || tgname || ' of ' || name,
       pg_get_triggerdef(t.oid) || CASE tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' (disabled)'
                                   ELSE ' (enabled as ' || tgenabled::text || ')' END
  FROM relation JOIN pg_trigger t ON t.tgrelid = relation.oid AND NOT tgisinternal
 UNION ALL
SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       pg_get_functiondef(p.oid)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = :schema AND prokind = 'f'
 UNION ALL
SELECT 'sequence ' || c.relname,
       format_type(seqtypid, NULL) || ' INCREMENT ' || seqincrement || CASE WHEN seqcycle THEN ' CYCLE' ELSE '' END
       || CASE WHEN seqstart <> 1 THEN ' START ' || seqstart ELSE '' END
       || coalesce(' OWNED BY ' || relation.name || '.' || attname, '')
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'
                       AND d.refclassid = 'pg_class'::regclass
  LEFT JOIN relation ON relation.oid = d.refobjid
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE n.nspname = :schema
""")


def check(engine: Engine, schema: str = SCHEMA) -> list[str]:
    """How the store differs from what it should be, a sentence each; empty: not at all.

    Indexes, triggers, functions and sequences of others are no difference, unless an index is unique.
    StoreNotReadyError: the store is missing, older or newer than this library.
    """
    return [str(it) for it in read_in_transaction(engine, lambda it: compare(it, schema))]


def differences(connection: Connection, schema: str = SCHEMA) -> list[str]:
    """As `check`, in the caller's transaction, whose `search_path` it leaves at pg_catalog."""
    return [str(it) for it in compare(connection, schema)]


class Difference(NamedTuple):
    """A thing, by kind and name, with its definition as it is and as it should be; None: it is not there."""

    thing: str
    found: str | None
    expected: str | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.thing} is missing"
        if self.expected is None:
            return f"{self.thing} does not belong here: «{self.found}»"
        return f"{self.thing} is «{self.found}», should be «{self.expected}»"


def compare(connection: Connection, schema: str = SCHEMA) -> list[Difference]:
    """The differences with their definitions; else as `differences`."""
    found = current_revision(connection, schema)
    if found != HEAD:
        raise StoreNotReadyError(describe_revision(found, schema))
    wanted, there = _expected(schema), catalogue(connection, schema)
    things = [it for it in wanted | there if it in wanted or _disturbs(it, there[it])]
    differing = [Difference(it, there.get(it), wanted.get(it)) for it in things if there.get(it) != wanted.get(it)]
    # What is missing comes first, so that a repair makes a sequence before the default that needs it.
    differing.sort(key=lambda it: (it.found is not None, it.expected is None))
    return [
        *differing,
        *_sequences_behind(connection, schema),
        *(Difference("encoding of the database", it, "UTF8") for it in [database_encoding(connection)] if it != "UTF8"),
    ]


def _sequences_behind(connection: Connection, schema: str) -> Iterator[Difference]:
    """Sequences that would give a number again, as after a logical replication; those that this role may read."""
    for table, column in (it.split(".") for it in _NUMBERED):
        name = f"{table}_{column}_seq"
        names = {"table": f"{schema}.{table}", "sequence": f"{schema}.{name}"}
        if (last := connection.scalar(_LAST_NUMBER, names)) is not None:
            below = 0 if last < 0 else 2**63 - 1  # a sequence at its end goes on with the negative numbers
            query = text(f"SELECT max({column}) FROM {schema}.{table} WHERE {column} < :below")
            largest = connection.scalar(query, {"below": below})
            if largest is not None and last < largest:
                yield Difference(f"number of sequence {name}", str(last), f"at least {largest}")


def catalogue(connection: Connection, schema: str = SCHEMA) -> dict[str, str]:
    """What PostgreSQL knows of the store: its things by kind and name, with their definitions.

    Leaves the transaction with `search_path` at pg_catalog, so that every name in a definition has its schema.
    """
    connection.execute(
        text("SELECT set_config('search_path', 'pg_catalog', true), set_config('quote_all_identifiers', 'off', true)")
    )
    rows = connection.execute(_CATALOGUE, {"schema": schema, "tables": sorted(TABLES)})
    return {str(thing): str(definition) for thing, definition in sorted(map(tuple, rows))}


def _expected(schema: str) -> dict[str, str]:
    written = (scripts_directory() / "catalogue.json").read_text(encoding="utf-8")
    return {thing: definition.replace("{schema}", schema) for thing, definition in json.loads(written).items()}


def _disturbs(thing: str, definition: str) -> bool:
    """Whether something that is not ours could refuse our rows, or holds what our saves know nothing of."""
    if thing == _NAME_INDEX_OF_THE_RUST_HOST:
        return False  # it makes it at every start, and the name is unique anyway
    return thing.startswith(("column ", "constraint ")) or definition.startswith("CREATE UNIQUE INDEX")
