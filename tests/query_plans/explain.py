"""How the server carries out one of our statements: as the text that is sent, with and without its values in sight."""

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


@dataclass(frozen=True)
class Plan:
    """What a statement read, and how it got there."""

    text: str
    scanned: frozenset[str]
    """Tables that were read from one end to the other."""
    indexes: frozenset[str]
    rows: int
    """How many rows of tables were looked at, without the catalogue's."""
    written: int
    """Bytes of the write-ahead log."""
    milliseconds: float


def explain(connection: psycopg.Connection, statement: Executable, values: Mapping[str, Any], mode: Mode) -> Plan:
    """The plan with which the statement was run; what it changed is undone."""
    text, constants = compiled(statement, SCHEMA)
    given = {**constants, **values}
    names = list(dict.fromkeys(_PLACEHOLDER.findall(text)))
    prepared = _PLACEHOLDER.sub(lambda found: f"${names.index(found[1]) + 1}", text).replace("%%", "%")
    literals = sql.SQL(", ").join(sql.Literal(given[name]) for name in names)
    arguments = sql.SQL("({})").format(literals) if names else sql.SQL("")
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL plan_cache_mode = {}").format(sql.SQL(mode)))
        connection.execute(sql.SQL("PREPARE looked_at AS {}").format(sql.SQL(cast(Any, prepared))))
        explained = sql.SQL("EXPLAIN (ANALYZE, WAL, FORMAT JSON) EXECUTE looked_at {}").format(arguments)
        row = connection.execute(explained).fetchone()
    connection.execute("DEALLOCATE looked_at")
    assert row is not None
    [found] = row[0]
    nodes = list(_nodes(found["Plan"]))
    return Plan(
        text=json.dumps(found["Plan"], indent=1),
        scanned=frozenset(node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"),
        indexes=frozenset(index for node in nodes for index in _indexes(node)),
        rows=sum(_rows_read(node) for node in nodes),
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
        return 0  # the catalogue does not grow with the store
    left_out: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    found: float = node["Actual Rows"]
    return round((found + left_out) * int(node["Actual Loops"]))
