"""The persistence provider: the repositories in one object, on an engine or inside a caller's transaction."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Self

from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session

from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.connections import JoinedRunner, SessionOrConnection, StatementRunner
from wfe_postgres.connections.engines import make_engine
from wfe_postgres.connections.step_transactions import step_transactions
from wfe_postgres.contract.interfaces import PersistenceProvider, TransactionalProvider
from wfe_postgres.orm import SCHEMA
from wfe_postgres.repositories.commands import PostgresScheduledCommandRepository
from wfe_postgres.repositories.errors import PostgresErrors
from wfe_postgres.repositories.events import PostgresEventRepository
from wfe_postgres.repositories.maintenance import PostgresMaintenance
from wfe_postgres.repositories.queries import PostgresQueries
from wfe_postgres.repositories.subscriptions import PostgresSubscriptionRepository
from wfe_postgres.repositories.workflows import PostgresWorkflowRepository
from wfe_postgres.schema.on_engine import OnEngine, ensure_store


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

    def __init__(self, runner: StatementRunner, ensure_store: Callable[[], None], **options: Any) -> None:
        super().__init__(runner, **options)
        self._ensure_store = ensure_store
        self._options = options

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
        """See `PostgresPersistenceProvider`."""
        self._ensure_store()

    def _inside(self, runner: StatementRunner) -> "PostgresRepositories":
        return PostgresRepositories(runner, self._ensure_store, **self._options)


class PostgresPersistenceProvider(OnEngine, PostgresRepositories, TransactionalProvider):
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
        self._open(make_engine(url, call_timeout, engine_options), schema, retry_budget, call_timeout)
        self._owns_engine = True
        self._set_up(command_lease=command_lease, max_payload_bytes=max_payload_bytes)

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
        provider._open(engine, schema, retry_budget)
        provider._set_up(command_lease=command_lease, max_payload_bytes=max_payload_bytes)
        return provider

    def _set_up(self, **options: Any) -> None:
        # No method of its own, by which it would refer to itself: without references it is freed at once.
        super().__init__(self._pooled, partial(ensure_store, self._pooled, self.engine), schema=self.schema, **options)

    def using(self, session_or_connection: SessionOrConnection, /) -> PostgresRepositories:
        """The same repositories inside the caller's transaction: they see what that wrote, and never end it.

        A `Session`, a `scoped_session` (Flask-SQLAlchemy's `db.session`), a SQLAlchemy `Connection`, or an open psycopg
        3 connection (Django's). Of a session with several binds it is the bind of `wfe_postgres.orm`'s classes. A
        session's pending objects are flushed first, and their errors are the application's own. Nothing is retried. The
        errors that the contract names come without a failing statement, so the transaction is still usable after them.
        ValueError: it is none of these, or another driver's.
        """
        return self._inside(JoinedRunner(session_or_connection, self._schema))

    def step_transactions(
        self, sessions: Callable[[], Session], /
    ) -> Callable[[], AbstractContextManager[tuple[PostgresRepositories, Session]]]:
        """What `WorkflowHost(transaction=...)` takes: a new session for each step, `context.session` there.

        What the step writes in it is committed with the save of its result, or not at all; its `commit()` raises
        `InvalidRequestError`. `sessions`: a `sessionmaker`, or another callable that gives a new session.

        ValueError, at the first step: its transactions are not READ COMMITTED.
        """
        return step_transactions(sessions, self.using)
