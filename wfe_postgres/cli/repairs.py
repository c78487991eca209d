"""What removes a difference between a store and what it should be: SQL, and whether `upgrade` runs it by itself.

By itself it runs what loses nothing and locks no table for long: it builds indexes concurrently, and replaces triggers,
functions and defaults.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import typer
from sqlalchemy import Connection, Engine

from wfe_postgres import PersistenceError, StoreNotReadyError
from wfe_postgres import schema as store
from wfe_postgres.cli.provider import complain, concerns_all, upgrade_command
from wfe_postgres.cli.text import in_one_line, plain
from wfe_postgres.connections.failures import NOT_PERMITTED
from wfe_postgres.schema import Difference
from wfe_postgres.schema.revisions import read_in_transaction

_COLUMN = re.compile(r"(?P<type>.+?)(?P<not_null> NOT NULL)?(?: DEFAULT (?P<default>.+))?", re.DOTALL)
_SEQUENCE = re.compile(r"(?P<type>\w+) INCREMENT (?P<by>\d+)(?: START (?P<start>\d+))?(?: OWNED BY (?P<column>\S+))?")
_BACKUP = "restore it from a backup"


class Repair(NamedTuple):
    """SQL statements; or, without any, what to do instead."""

    statements: list[str]
    is_automatic: bool = True
    advice: str = ""


def report_unfinished_upgrade(engine: Engine, schema: str) -> None:
    """Say so where an earlier upgrade has stopped while it built an index."""

    def read(connection: Connection) -> tuple[str | None, list[str]]:
        revision = store.current_revision(connection, schema)
        there = store.catalogue(connection, schema).items() if revision else ()
        return revision, [thing for thing, definition in there if definition.endswith(" (invalid)")]

    revision, unfinished = read_in_transaction(engine, read)
    if revision != store.HEAD and unfinished:
        typer.echo(f"An earlier upgrade stopped after revision {revision}: {', '.join(unfinished)} is built again.")


def repair(engine: Engine, schema: str) -> list[Difference]:
    """Run all that is automatic, say what it was and what failed, and return the differences that are left."""
    tried: set[Difference] = set()
    while True:
        left = read_in_transaction(engine, lambda it: store.compare(it, schema))
        repairs = {it: repair_of(it, schema) for it in sorted(left, key=_order) if it not in tried}
        automatic = {it: found.statements for it, found in repairs.items() if found.is_automatic}
        if not automatic:
            return left
        for it, statements in automatic.items():
            try:
                store.upgrade(engine, schema, repairs=[statements])
            except PersistenceError as error:
                if error.sqlstate == NOT_PERMITTED:
                    raise StoreNotReadyError(
                        f"the store in schema {schema} differs from what it should be: run `wfe-postgres upgrade`, "
                        "as a role that owns it (this one may not)"
                    ) from error
                if concerns_all(error):
                    raise
                complain(f"{it.thing} cannot be repaired: {error}")
            else:
                typer.echo(f"Repaired: {it.thing}{' was missing' if it.found is None else ''}")
        tried |= automatic.keys()


def print_differences(differences: list[Difference], schema: str) -> None:
    """Each in a line, and its repair in the next one."""
    for difference in differences:
        typer.echo(in_one_line(str(difference)))
        found = repair_of(difference, schema)
        statements = " ".join(f"{plain(it)};" for it in found.statements) or found.advice
        typer.echo(f"  repair: {f'`{upgrade_command(schema)}`, or ' if found.is_automatic else ''}{statements}")


def repair_of(difference: Difference, schema: str) -> Repair:
    """What removes the difference."""
    kind, _, name = difference.thing.partition(" ")
    return _KINDS[kind](difference, name, schema)


def _index(difference: Difference, name: str, schema: str) -> Repair:
    drop = f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}"
    if difference.expected is None:
        return Repair([drop], is_automatic=False)
    return Repair([drop, difference.expected.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)])


def _trigger(difference: Difference, name: str, schema: str) -> Repair:
    return Repair([str(difference.expected).replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER", 1)])


def _function(difference: Difference, name: str, schema: str) -> Repair:
    head, body, _ = str(difference.expected).split("$function$")
    literal = (
        body.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    )  # so that it can be printed in one line
    return Repair([f"{' '.join(head.split())} E'{literal}'"])


def _constraint(difference: Difference, name: str, schema: str) -> Repair:
    name, _, table = name.partition(" of ")
    alter, expected = f"ALTER TABLE {schema}.{table}", difference.expected
    drop = f"DROP CONSTRAINT IF EXISTS {name}"
    if expected is None:
        return Repair([f"{alter} {drop}"], is_automatic=False)
    if expected.startswith("FOREIGN KEY"):
        return Repair(
            [f"{alter} {drop}, ADD CONSTRAINT {name} {expected} NOT VALID", f"{alter} VALIDATE CONSTRAINT {name}"]
        )
    kind, _, columns = expected.partition(" (")
    return Repair(
        [
            f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}_new",
            f"CREATE UNIQUE INDEX CONCURRENTLY {name}_new ON {schema}.{table} ({columns}",
            f"{alter} {drop}, ADD CONSTRAINT {name} {kind} USING INDEX {name}_new",
        ]
    )


def _column(difference: Difference, name: str, schema: str) -> Repair:
    table, _, column = name.partition(".")
    alter = f"ALTER TABLE {schema}.{table}"
    if difference.expected is None:
        return Repair([f"{alter} DROP COLUMN {column}"], is_automatic=False)
    if difference.found is None:
        return Repair([], is_automatic=False, advice=_BACKUP)
    found, expected = (_COLUMN.fullmatch(it) for it in (difference.found, difference.expected))
    if found is None or expected is None or found["type"] != expected["type"]:
        return Repair([f"{alter} ALTER COLUMN {column} TYPE {expected and expected['type']}"], is_automatic=False)
    if found["not_null"] != expected["not_null"]:
        set_or_drop = "SET" if expected["not_null"] else "DROP"  # to set it, every row is looked at under a lock
        return Repair([f"{alter} ALTER COLUMN {column} {set_or_drop} NOT NULL"], not expected["not_null"])
    new = f"SET DEFAULT {expected['default']}" if expected["default"] else "DROP DEFAULT"
    return Repair([f"{alter} ALTER COLUMN {column} {new}"])


def _sequence(difference: Difference, name: str, schema: str) -> Repair:
    expected = _SEQUENCE.fullmatch(str(difference.expected))
    assert expected is not None
    owner = f"{schema}.{expected['column']}" if expected["column"] else "NONE"
    options = (
        f"AS {expected['type']} INCREMENT BY {expected['by']} START WITH {expected['start'] or 1} NO CYCLE"
        f" OWNED BY {owner}"
    )
    verb = "ALTER SEQUENCE" if difference.found else "CREATE SEQUENCE"
    return Repair([f"{verb} {schema}.{name} {options}"])


def _number(difference: Difference, name: str, schema: str) -> Repair:
    number = str(difference.expected).removeprefix("at least ")
    return Repair([f"SELECT setval('{schema}.{name.removeprefix('of sequence ')}', {number})"])


def _table(difference: Difference, name: str, schema: str) -> Repair:
    alter = f"ALTER TABLE {schema}.{name}"
    statements = {
        "table (unlogged)": [f"{alter} SET LOGGED"],
        "table (with row security)": [f"{alter} DISABLE ROW LEVEL SECURITY"],
    }
    return Repair(statements.get(str(difference.found), []), is_automatic=False, advice=_BACKUP)


def _encoding(difference: Difference, name: str, schema: str) -> Repair:
    return Repair([], is_automatic=False, advice="move the store with pg_dump to a database with ENCODING 'UTF8'")


def _order(difference: Difference) -> int:
    return list(_KINDS).index(difference.thing.partition(" ")[0])


# In the order in which one needs the other.
_KINDS: dict[str, Callable[[Difference, str, str], Repair]] = {
    "table": _table,
    "sequence": _sequence,
    "column": _column,
    "constraint": _constraint,
    "index": _index,
    "function": _function,
    "trigger": _trigger,
    "number": _number,
    "encoding": _encoding,
}
