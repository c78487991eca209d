"""Queries that the provider does not offer: the sizes of the tables, and the rows that a purge would remove."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Executable, Table, func, literal_column, select, text

from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.connections import PooledRunner, PoolSource
from wfe_postgres.orm import Base, WorkflowRow
from wfe_postgres.orm.services import SERVICE_TABLES
from wfe_postgres.statements import maintenance
from wfe_postgres.statements.expressions import bigint_parameter, timestamp_parameter
from wfe_postgres.statements.maintenance import Purge
from wfe_postgres.statements.tables import table_of

workflows: Table = table_of(WorkflowRow)

TABLES = text("""
    SELECT c.relname, pg_catalog.pg_stat_get_live_tuples(c.oid), pg_catalog.pg_stat_get_dead_tuples(c.oid),
           pg_catalog.pg_table_size(c.oid), pg_catalog.pg_indexes_size(c.oid),
           greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid), pg_catalog.pg_stat_get_last_autovacuum_time(c.oid))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r'
""")

# A purge selects rows with a time before a given timestamp, so the timestamp is one microsecond after the last row's.
# Python's datetime starts at year 1; rows with an earlier time are removed with the first batch.
_JUST_AFTER = "greatest({column} + interval '1 microsecond', timestamptz '0001-01-02 00:00:00+00')"


@dataclass(frozen=True)
class TableSize:
    """The size of one table. Row counts are estimates from PostgreSQL's statistics."""

    table: str
    rows: int
    dead_rows: int
    bytes: int
    """Including TOAST, without the indexes."""
    index_bytes: int
    last_vacuum: datetime | None


@dataclass(frozen=True)
class Removable:
    """What a purge of the provider removes."""

    purge: Purge
    params: dict[str, Any] = field(default_factory=dict)

    def count(self) -> Executable:
        """Count the rows before `:older_than` that would be removed."""
        return select(func.count()).select_from(self.purge.table).where(self.purge.old, self.purge.removable)

    def step(self) -> Executable:
        """Select a timestamp just after the row at offset `:size` from `:begin`."""
        column = self.purge.order[0]
        just_after: ColumnElement[datetime] = literal_column(_JUST_AFTER.format(column=column.key))
        return (
            select(just_after)
            .select_from(self.purge.table)
            .where(self.purge.old, column >= timestamp_parameter("begin"))
            .order_by(column)
            .offset(bigint_parameter("size"))
            .limit(1)
        )


def finished_workflows(status: WorkflowStatus) -> Removable:
    """The rows that `purge_workflows` removes."""
    return Removable(maintenance.WORKFLOWS, {"status": str(status)})


PROCESSED_EVENTS = Removable(maintenance.EVENTS)
"""The rows that `purge_events` removes."""

STEP_ERRORS = Removable(maintenance.ERRORS)
"""The rows that `purge_errors` removes."""

ORPHANS = tuple(map(Removable, maintenance.ORPHANS))
"""The rows that `delete_orphans` removes."""


class Catalogue:
    """Runs queries on the provider's engine and schema. Raises the library's exceptions."""

    def __init__(self, provider: PostgresPersistenceProvider, schema: str, retry_budget: float) -> None:
        self._runner = PooledRunner(PoolSource(provider.engine), schema, retry_budget=retry_budget)
        self._schema = schema

    def read(self, statement: Executable, params: dict[str, Any]) -> Sequence[Any]:
        """The rows of a SELECT."""
        return self._runner.read(statement, params)

    def table_sizes(self) -> list[TableSize]:
        """The sizes of the store's tables, in the order of the metadata in `wfe_postgres.orm`.

        Those of the services are left out while they are empty: most stores use none of them.
        """
        found = {row[0]: TableSize(*row) for row in self._runner.read(TABLES, {"schema": self._schema})}
        names = [table.name for table in Base.metadata.sorted_tables if table.name in found]
        return [it for it in map(found.__getitem__, names) if it.rows or it.dead_rows or it.table not in SERVICE_TABLES]

    def count(self, removable: Removable, older_than: datetime) -> int:
        """The number of rows that a purge would remove."""
        params = removable.params | _limits(older_than)
        [(number,)] = self._runner.read(removable.count(), params)
        return int(number)

    def steps(self, removable: Removable, older_than: datetime, size: int) -> Iterator[datetime]:
        """Yield timestamps that split a purge into batches of about `size` rows; the last one is `older_than`."""
        statement, begin = removable.step(), "-infinity"
        params = removable.params | _limits(older_than) | {"size": size - 1}
        while found := self._runner.read(statement, params | {"begin": begin}):
            yield found[0][0]
            begin = found[0][0].isoformat()
        yield older_than


def _limits(older_than: datetime) -> dict[str, Any]:
    return {"older_than": older_than.isoformat(), "older_than_ms": milliseconds(older_than, "older_than")}
