"""What the command asks of the database beyond the provider: the size of its tables, and what a purge would remove."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Executable, Table, func, literal_column, select, text

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.connections import PooledRunner, pool_source
from wfe_postgres.orm import Base, EventRow, WorkflowRow
from wfe_postgres.statements.expressions import bigint_parameter, moment_parameter, table_of, text_parameter

workflows: Table = table_of(WorkflowRow)
events: Table = table_of(EventRow)

TABLES = text("""
    SELECT c.relname, pg_catalog.pg_stat_get_live_tuples(c.oid), pg_catalog.pg_stat_get_dead_tuples(c.oid),
           pg_catalog.pg_table_size(c.oid), pg_catalog.pg_indexes_size(c.oid),
           greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r'
""")

# A purge asks for times earlier than a given one: this is just beyond the last row's, so that the row is one of them.
# Python's calendar begins with the year 1; what lies before goes with the first batch.
_JUST_AFTER = "greatest({column} + interval '1 microsecond', timestamptz '0001-01-02 00:00:00+00')"


@dataclass(frozen=True)
class TableSize:
    """How large one table is. The rows are those of PostgreSQL's statistics: about as many, not exactly."""

    table: str
    rows: int
    dead_rows: int
    bytes: int
    """With its oversized values, without the indexes."""
    index_bytes: int
    last_vacuum: datetime | None


@dataclass(frozen=True)
class Removable:
    """What a purge removes: rows of one table, by the time that decides it."""

    column: Column[datetime]
    condition: ColumnElement[bool]
    given: dict[str, Any]

    def count(self) -> Executable:
        """How many there are before `:older_than`."""
        return select(func.count()).where(self.condition, self.column < moment_parameter("older_than"))

    def step(self) -> Executable:
        """The time just after that of the row that is the `:size`th from `:begin` on."""
        just_after: ColumnElement[datetime] = literal_column(_JUST_AFTER.format(column=self.column.key))
        since, until = moment_parameter("begin"), moment_parameter("older_than")
        return (
            select(just_after)
            .select_from(self.column.table)
            .where(self.condition, self.column >= since, self.column < until)
            .order_by(self.column)
            .offset(bigint_parameter("size"))
            .limit(1)
        )


def finished_workflows(status: WorkflowStatus) -> Removable:
    """What `purge_workflows` removes."""
    return Removable(workflows.c.complete_time, workflows.c.status == text_parameter("status"), {"status": str(status)})


def processed_events() -> Removable:
    """What `purge_events` removes."""
    return Removable(events.c.event_time, events.c.is_processed, {})


class Catalogue:
    """Reads on the provider's engine, in its schema; the errors are the library's own."""

    def __init__(self, provider: PostgresPersistenceProvider, schema: str, retry_budget: float) -> None:
        self._runner = PooledRunner(pool_source(provider.engine), schema, retry_budget=retry_budget)
        self._schema = schema

    def table_sizes(self) -> list[TableSize]:
        """All tables of the store, in the order in which `wfe_postgres.orm` has them."""
        found = {row[0]: TableSize(*row) for row in self._runner.read(TABLES, {"schema": self._schema})}
        return [found[name] for table in Base.metadata.sorted_tables if (name := table.name) in found]

    def count(self, removable: Removable, older_than: datetime) -> int:
        """How many rows a purge would remove."""
        [(number,)] = self._runner.read(removable.count(), removable.given | {"older_than": older_than.isoformat()})
        return int(number)

    def steps(self, removable: Removable, older_than: datetime, size: int) -> Iterator[datetime]:
        """Times by which a purge gets through its rows in steps of about `size`; the last one is `older_than`."""
        statement, begin = removable.step(), "-infinity"
        given = removable.given | {"older_than": older_than.isoformat(), "size": size - 1}
        while found := self._runner.read(statement, given | {"begin": begin}):
            yield found[0][0]
            begin = found[0][0].isoformat()
        yield older_than
