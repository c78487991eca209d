"""The persistence provider: the repositories in one object, on an engine or inside a caller's transaction."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from wfe_postgres import schema as store
from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections import PooledRunner, SessionOrConnection, StatementRunner, pool_source
from wfe_postgres.connections.engines import make_engine
from wfe_postgres.connections.runners import join_caller
from wfe_postgres.connections.step_transactions import step_transactions
from wfe_postgres.contract.interfaces import PersistenceProvider, TransactionalProvider
from wfe_postgres.orm import SCHEMA
from wfe_postgres.repositories import (
    PostgresEventRepository,
    PostgresScheduledCommandRepository,
    PostgresSubscriptionRepository,
    PostgresWorkflowRepository,
)
from wfe_postgres.repositories.errors import PostgresErrors
from wfe_postgres.repositories.maintenance import PostgresMaintenance
from wfe_postgres.repositories.queries import PostgresQueries


class PostgresRepositories(
    PostgresWorkflowRepository,
    PostgresEventRepository,
    PostgresSubscriptionRepository,
    PostgresScheduledCommandRepository,
    PostgresErrors,
    PostgresQueries,
    PostgresMaintenance,
    PersistenceProvider,
):
    """All repositories and queries together: what `using()` and `transaction()` of the provider return.

    The transaction is owned by the caller, so there is no method here that ends it.
    """

    def __init__(
        self,
        runner: StatementRunner,
        *,
        schema: str,
        command_lease: float,
        max_payload_bytes: int,
        ensure_store: Callable[[], None],
    ) -> None:
        super().__init__(runner, schema=schema, command_lease=command_lease, max_payload_bytes=max_payload_bytes)
        self._ensure_store = ensure_store

    @contextmanager
    def transaction(self) -> Iterator["PostgresRepositories"]:
        """Several calls in one transaction: `with provider.transaction() as tx:`.

        It is committed at the end of the block and rolled back when the block raises; inside another transaction it
        is a savepoint. `OutcomeUnknownError`: the connection was lost while it was being committed, or the wait for a
        synchronous standby was cut short.
        """
        with self._runner.transaction() as joined:
            yield self._inside(joined)

    def ensure_store_exists(self) -> None:
        """Create the store or upgrade it; any number of times, from any number of processes at once.

        Works on connections of its own, also inside a caller's transaction. A store that is up to date is only read,
        for which USAGE and SELECT are enough.

        Raises `StoreNotReadyError` when the store is newer than this library, incomplete, not what a WFE host made, or
        when this role may not change it.
        """
        self._ensure_store()

    def _inside(self, runner: StatementRunner) -> "PostgresRepositories":
        return PostgresRepositories(
            runner,
            schema=self._schema,
            command_lease=self._command_lease,
            max_payload_bytes=self._max_payload_bytes,
            ensure_store=self._ensure_store,
        )


class PostgresPersistenceProvider(PostgresRepositories, TransactionalProvider):
    """WFE's persistence on PostgreSQL. Thread-safe; a provider that was made before a fork works in the child process.

    - `url`: `postgresql://user:password@host:port/database`, or a SQLAlchemy `URL`. The host can be a list
      (`host1:5432,host2:5433`) or the directory of a Unix socket (`%2Frun%2Fpostgresql`), as in a URL for psql.
    - `schema`: the schema of the tables.
    - `command_lease`: seconds for which a scheduled command is leased to the host that runs it.
    - `retry_budget`: seconds that one call may spend on retries after transient errors; 0 switches retries off.
    - `call_timeout`: seconds after which any call has returned or raised, also on a silent network; `None`: no limit.
    - `max_payload_bytes`: the limit of one JSON value, in bytes of its encoding.
    - `engine_options`: keywords of `sqlalchemy.create_engine`, as `pool_size` (10 by default, without overflow).

    No connection is made before the first call. ValueError: the URL or the schema's name is unusable, or an option
    (`creator`, `pool`, `module`) makes connections on which no `call_timeout` could be enforced.
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
        engine = make_engine(url, call_timeout, engine_options)
        runner = PooledRunner(
            pool_source(engine),
            schema_name(schema),
            retry_budget=retry_budget,
            timeout=math.inf if call_timeout is None else call_timeout,
        )
        self._set_up(runner, engine, command_lease, max_payload_bytes)
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

        A signal handler's exception in the middle of a call can have its pool begin anew (`Engine.dispose()`).

        ValueError: the engine is not `postgresql+psycopg`.
        """
        provider = cls.__new__(cls)
        runner = PooledRunner(pool_source(engine), schema_name(schema), retry_budget=retry_budget)
        provider._set_up(runner, engine, command_lease, max_payload_bytes)
        provider._owns_engine = False
        return provider

    def _set_up(self, runner: PooledRunner, engine: Engine, command_lease: float, max_payload_bytes: int) -> None:
        super().__init__(
            runner,
            schema=runner.schema,
            command_lease=command_lease,
            max_payload_bytes=max_payload_bytes,
            ensure_store=partial(_ensure_store, runner, engine),
        )
        self._pooled = runner
        self.schema: str = runner.schema
        """The schema of the tables."""
        self.engine: Engine = engine
        """The engine that the provider works on, the application's or its own: the place for event listeners."""

    def using(self, session_or_connection: SessionOrConnection, /) -> PostgresRepositories:
        """The same repositories inside the caller's transaction: they see what that wrote, and never end it.

        A `Session`, a `scoped_session` (Flask-SQLAlchemy's `db.session`), a SQLAlchemy `Connection`, or an open psycopg
        3 connection (Django's). Of a session with several binds it is the bind of `wfe_postgres.orm`'s classes. A
        session's pending objects are flushed first, and their errors are the application's own. Nothing is retried. The
        errors that the contract names come without a failing statement, so the transaction is still usable after them.
        ValueError: it is none of these, or another driver's.
        """
        return self._inside(join_caller(session_or_connection, self._schema))

    def step_transactions(
        self, sessions: Callable[[], Session], /
    ) -> Callable[[], AbstractContextManager[tuple[PostgresRepositories, Session]]]:
        """What `WorkflowHost(transaction=...)` takes: a new session for each step, `context.session` there.

        What the step writes in it is committed with the save of its result, or not at all. `sessions`: a
        `sessionmaker`, or another callable that gives a new session.

        ValueError, at the first step: its transactions are not READ COMMITTED.
        """
        return step_transactions(sessions, self.using)

    def close(self) -> None:
        """Release the pool, if it is the provider's own. Any number of times; a later call is a `PersistenceError`."""
        self._pooled.close()
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


def _ensure_store(runner: PooledRunner, engine: Engine) -> None:
    runner.require_open()
    store.ensure(engine, runner.schema, read_timeout=runner.timeout)
