"""The persistence provider: the four repositories in one object, on an engine."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Engine, text

from wfe_postgres import schema as store
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionError
from wfe_postgres.engines import make_engine, reserve, survive_fork
from wfe_postgres.mapping import encode_plain_records, error_to_record
from wfe_postgres.payloads import MAX_PAYLOAD_BYTES
from wfe_postgres.repositories import (
    PostgresEventRepository,
    PostgresScheduledCommandRepository,
    PostgresSubscriptionRepository,
    PostgresWorkflowRepository,
)
from wfe_postgres.repositories.base import check_call_size, new_revision, plain_schema
from wfe_postgres.repositories.reports import PostgresReports
from wfe_postgres.rows import SCHEMA, Base
from wfe_postgres.sessions import OwnCalls, Place, Watchdog, engine_source
from wfe_postgres.statements import commands as statements


class PostgresPersistenceProvider(
    PostgresWorkflowRepository,
    PostgresEventRepository,
    PostgresSubscriptionRepository,
    PostgresScheduledCommandRepository,
    PostgresReports,
    PersistenceProvider,
):
    """WFE's persistence on PostgreSQL. Thread-safe, and usable in a child after `os.fork()`.

    `url`: `postgresql://user:password@host:port/database`, or a SQLAlchemy `URL`. `schema`: where the tables lie.
    `command_lease`: seconds for which a scheduled command belongs to the host that runs it. `retry_budget`: seconds
    that one call may spend on retries, 0 switches them off. `call_timeout`: seconds after which any call has returned
    or raised, whatever the network does; `None` for no limit. `max_payload_bytes`: the limit of one JSON value's
    encoding. `engine_options` are `sqlalchemy.create_engine`'s, as `pool_size` (10 by default, and no overflow).

    ValueError: the URL or the schema's name is unusable. No connection is made before the first call.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        schema: str = SCHEMA,
        command_lease: float = 30.0,
        retry_budget: float = 30.0,
        call_timeout: float | None = 60.0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        **engine_options: Any,
    ) -> None:
        watchdog = Watchdog(call_timeout)
        engine = make_engine(url, call_timeout, engine_options, watchdog)
        calls = OwnCalls(
            engine_source(engine),
            plain_schema(schema),
            retry_budget=retry_budget,
            watchdog=watchdog,
            reserve=reserve(call_timeout),
        )
        self._set_up(calls, engine, command_lease, max_payload_bytes)
        self._owns_engine = True

    @classmethod
    def from_engine(
        cls,
        engine: Engine,
        *,
        schema: str = SCHEMA,
        command_lease: float = 30.0,
        retry_budget: float = 30.0,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> Self:
        """A provider on the application's own engine, which `close()` leaves alone.

        ValueError: the engine is not `postgresql+psycopg`.
        """
        provider = cls.__new__(cls)
        calls = OwnCalls(engine_source(engine), plain_schema(schema), retry_budget=retry_budget)
        provider._set_up(calls, engine, command_lease, max_payload_bytes)
        provider._owns_engine = False
        survive_fork(engine)
        return provider

    def _set_up(self, calls: OwnCalls, engine: Engine, command_lease: float, max_payload_bytes: int) -> None:
        super().__init__(calls, schema=calls.schema, command_lease=command_lease, max_payload_bytes=max_payload_bytes)
        self._own = calls
        self.engine: Engine = engine
        """The engine that the provider works on, the application's or its own: the place for event listeners."""

    def using(self, place: Place) -> Self:
        """The same provider inside the caller's transaction: it sees what that wrote, and never ends it.

        `place`: a `Session`, a `scoped_session` (Flask-SQLAlchemy's `db.session`), a SQLAlchemy `Connection`, or an
        open psycopg 3 connection (Django's). A session's pending objects are flushed first, and their errors are the
        application's own. Nothing is retried. The errors that the contract names come without a failing statement, so
        the transaction is still usable after them. ValueError: the place is none of these, or another driver's.
        """
        return self._with(self._own.join(place))

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Several calls of one's own in one transaction: `with provider.transaction() as tx:`.

        It is committed at the end of the block and rolled back when the block raises; inside another transaction it
        is a savepoint. `OutcomeUnknownError`: the connection was lost while it was being committed.
        """
        with self._calls.transaction() as joined:
            yield self._with(joined)

    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """See `PersistenceProvider`. One statement."""
        nonce = new_revision() >> 1  # counted up from here, and still in the column's range
        records = [error_to_record(error, nonce + index, f"errors[{index}]") for index, error in enumerate(errors)]
        if not records:
            return
        encoded = encode_plain_records(records)
        check_call_size("errors", encoded)
        self._calls.write(lambda execute, _: execute(statements.STORE_ERRORS, {"errors": encoded}))

    def ensure_store_exists(self) -> None:
        """See `PersistenceProvider`. Works on connections of its own, also inside a caller's transaction.

        A store that is up to date is only looked at, for which USAGE and SELECT are enough.
        """
        self._own.require_open()
        store.ensure(self.engine, self._schema, watchdog=self._own.watchdog)

    def truncate_all(self) -> None:
        """Empty every table and restart its sequences, in one transaction: for tests."""
        tables = ", ".join(f"{self._schema}.{table.name}" for table in Base.metadata.sorted_tables)
        truncate = text(f"TRUNCATE {tables} RESTART IDENTITY")
        self._calls.write(lambda execute, _: execute(truncate, {}))

    def close(self) -> None:
        """Release the pool, if it is the provider's own. Any number of times; a later call is a `PersistenceError`."""
        self._own.close()
        if self._owns_engine:
            self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.engine.url!r}, schema={self._schema!r})"

    def _with(self, calls: Any) -> Self:
        joined = copy.copy(self)
        joined._calls = calls
        return joined
