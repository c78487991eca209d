"""EXPLAIN ANALYZE for the statements of the library, with a generic and with a custom plan."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import psycopg
from psycopg import sql
from sqlalchemy import Executable

from wfe_postgres.connections.execution import compiled
from wfe_postgres.orm import SCHEMA

Mode = Literal["force_generic_plan", "force_custom_plan"]
Node = dict[str, Any]

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")

_ROWS_READ = """
    SELECT sum(pg_stat_get_xact_tuples_fetched(oid)
               + CASE relkind WHEN 'r' THEN pg_stat_get_xact_tuples_returned(oid) ELSE 0 END)
      FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind IN ('r', 'i')
"""


@dataclass(frozen=True)
class Plan:
    """The plan of an executed statement, and the rows it read."""

    text: str
    scanned: frozenset[str]
    """Tables read by a sequential scan."""
    indexes: frozenset[str]
    rows: int
    """The number of table rows read, without those of the system catalogs."""
    written: int
    """Bytes of the write-ahead log."""
    milliseconds: float


def explain(connection: psycopg.Connection, statement: Executable, values: Mapping[str, Any], mode: Mode) -> Plan:
    """Execute the statement, roll back its changes, and return its plan."""
    parts, constants = compiled(statement)
    text = SCHEMA.join(parts)
    params = {**constants, **values}
    names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
    prepared = _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", text).replace("%%", "%")
    literals = sql.SQL(", ").join(sql.Literal(params[name]) for name in names)
    arguments = sql.SQL("({})").format(literals) if names else sql.SQL("")
    with connection.transaction(force_rollback=True):
        before = _counted(connection)
        connection.execute(sql.SQL("SET LOCAL plan_cache_mode = {}").format(sql.SQL(mode)))
        connection.execute(sql.SQL("PREPARE explained_statement AS {}").format(sql.SQL(cast(Any, prepared))))
        explained = sql.SQL("EXPLAIN (ANALYZE, WAL, FORMAT JSON) EXECUTE explained_statement {}").format(arguments)
        row = connection.execute(explained).fetchone()
        counted = _counted(connection) - before
    connection.execute("DEALLOCATE explained_statement")
    assert row is not None
    [found] = row[0]
    nodes = list(_nodes(found["Plan"]))
    return Plan(
        text=json.dumps(found["Plan"], indent=1),
        scanned=frozenset(node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"),
        indexes=frozenset(index for node in nodes for index in _indexes(node)),
        # Before PostgreSQL 18 the rows of a node that is executed often are an average, rounded to a whole number. What
        # the server counts is exact, but contains the rows that the planner and foreign keys have read.
        rows=min(counted, sum(_rows_read(node) for node in nodes)),
        written=sum(node["WAL Bytes"] for node in nodes if node["Node Type"] == "ModifyTable"),
        milliseconds=found["Execution Time"],
    )


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _indexes(node: Node) -> list[str]:
    return [*([node["Index Name"]] if "Index Name" in node else []), *node.get("Conflict Arbiter Indexes", ())]


def _rows_read(node: Node) -> int:
    if "Relation Name" not in node or node["Node Type"] == "ModifyTable":
        return 0
    if node["Relation Name"].startswith("pg_"):
        return 0  # the system catalogs do not grow with the store
    filtered_out: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    found: float = node["Actual Rows"]
    return round((found + filtered_out) * int(node["Actual Loops"]))


def _counted(connection: psycopg.Connection) -> int:
    """How many rows of the store's tables this transaction has read so far."""
    row = connection.execute(_ROWS_READ).fetchone()
    assert row is not None
    return int(row[0])
