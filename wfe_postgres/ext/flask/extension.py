"""`WFE`: the provider and the host of an application."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections.checkout import reset_pool_after_fork
from wfe_postgres.contract.services import DistributedLockProvider, LifecyclePublisher, QueueProvider
from wfe_postgres.ext.flask.binds import follow_bind
from wfe_postgres.ext.flask.commands import commands
from wfe_postgres.host import ExecutionResult, StepContext, WorkflowClient, WorkflowDefinition, WorkflowHost
from wfe_postgres.host.definitions import Definitions, StepFunction
from wfe_postgres.orm import SCHEMA
from wfe_postgres.provider import PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.services import PostgresQueueProvider


class HostOptions(TypedDict, total=False):
    """Keywords of `WFE` and of its `init_app` that are those of `WorkflowHost`."""

    queue: QueueProvider | bool
    """True: a `PostgresQueueProvider` on the engine of the store."""
    lock: DistributedLockProvider
    lifecycle: LifecyclePublisher
    middleware: Sequence[Callable[[StepContext, StepFunction], ExecutionResult | None]]
    threads: int
    lease: float | timedelta
    poll_interval: float | timedelta
    clock: Callable[[], datetime]


class WFE:
    """The Flask extension: one object for any number of applications.

    - `app`, `db`: the application and its `SQLAlchemy`; or call `init_app` later, in an application factory.
    - `definitions`: what the host knows; `register` adds others.
    - `bind_key`: the bind in SQLALCHEMY_BINDS whose database has the store; by default SQLALCHEMY_DATABASE_URI.
    - `schema`: the schema of the tables.
    - the other parameters are those of `WorkflowHost`; `queue=True`: a `PostgresQueueProvider` on the store's engine.

    Raises `ValueError` for two definitions of one id and version, and for an unusable schema.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: SQLAlchemy | None = None,
        *,
        definitions: Iterable[WorkflowDefinition] = (),
        bind_key: str | None = None,
        schema: str = SCHEMA,
        **host_options: Unpack[HostOptions],
    ) -> None:
        _refuse_unknown(host_options)
        self.bind_key: str | None = bind_key
        """The bind whose database has the store."""
        self.schema: str = schema_name(schema)
        """The schema of the tables."""
        self._definitions = Definitions(definitions)
        self._host_options: dict[str, Any] = {**host_options}
        self._has_host = False
        self._db = db
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None, **host_options: Unpack[HostOptions]) -> None:
        """Configure an application, and give it the commands `flask wfe`. Nothing is connected yet.

        `db`: by default the one that `WFE` was given. The other parameters are those of `WorkflowHost`. They replace
        for this application what `WFE` was given, for example the `clock` in a test. Raises `RuntimeError` if the
        application has a `WFE` already, and if `db.init_app(app)` was not called before.
        """
        db = db if db is not None else self._db
        _refuse_unknown(host_options)
        if db is None:
            raise TypeError("WFE needs the application's SQLAlchemy object: WFE(app, db) or init_app(app, db)")
        if "wfe" in app.extensions:
            raise RuntimeError("this application has a WFE already: use that one")
        with app.app_context():
            engine: Engine | None = db.engines.get(self.bind_key)
        if engine is not None:
            reset_pool_after_fork(engine)  # notes whose pool it is, also for what db.session does before a fork
        app.extensions["wfe"] = Workflows(self, app, db, {**self._host_options, **host_options})
        app.cli.add_command(commands)
        if self.bind_key is not None:
            follow_bind(db)

    def register(self, definition: WorkflowDefinition) -> WorkflowDefinition:
        """Add a definition, and return it.

        Raises `ValueError` if another definition of its id and version is known, and `RuntimeError` once a host was
        used: it would not know this one.
        """
        if self._has_host:
            raise RuntimeError(f"register {definition.id!r} before the host is used")
        self._definitions.add(definition)
        return definition

    @property
    def provider(self) -> PostgresPersistenceProvider:
        """The store of the current application, on the engine of its bind.

        Its calls are transactions of their own: see `using_session`. Raises `ValueError` if the bind is not configured,
        or has another driver than psycopg 3, and `RuntimeError` outside an application context.
        """
        return self._workflows.provider

    @property
    def host(self) -> WorkflowHost:
        """The host of the current application. A view starts workflows by it, and `flask wfe work` runs them.

        Each step has the application context, and a transaction: `db.session` is `context.session` there, and is
        committed with the result of the step. In a step with `transaction=False`, `db.session` is as in a request.
        Raises as `provider` does.
        """
        return self._workflows.host

    def using_session(self) -> WorkflowClient:
        """The verbs of the host in the transaction of `db.session`, whose `commit()` or `rollback()` takes them along.

        Raises as `provider` does.
        """
        return self._workflows.host.using(self._workflows.db.session)

    @property
    def _workflows(self) -> "Workflows":
        found = current_app.extensions.get("wfe")
        if not isinstance(found, Workflows) or found.wfe is not self:
            raise RuntimeError("the current application is not registered with this WFE: call init_app(app, db)")
        return found

    def _make_host(
        self, provider: PostgresPersistenceProvider, app: Flask, db: SQLAlchemy, host_options: dict[str, Any]
    ) -> WorkflowHost:
        self._has_host = True
        options = {**host_options}
        if isinstance(queue := options.get("queue"), bool):
            made = PostgresQueueProvider.from_engine(provider.engine, schema=self.schema) if queue else None
            options["queue"] = made

        def in_context(context: StepContext, call_next: StepFunction) -> ExecutionResult | None:
            if context.session is not None:  # the context of its transaction
                return call_next(context)
            with app.app_context():
                return call_next(context)

        options["middleware"] = [in_context, *options.get("middleware", ())]
        transaction = _transactions(provider, app, db)
        return WorkflowHost(provider, self._definitions.values(), transaction=transaction, **options)


class Workflows:
    """What one application has of a `WFE`: `app.extensions["wfe"]`."""

    def __init__(self, wfe: WFE, app: Flask, db: SQLAlchemy, host_options: dict[str, Any]) -> None:
        self.wfe: WFE = wfe
        self.db: SQLAlchemy = db
        self._app = app
        self._host_options = host_options
        self._made: dict[str, tuple[PostgresPersistenceProvider, WorkflowHost]] = {}

    @property
    def provider(self) -> PostgresPersistenceProvider:
        """See `WFE.provider`."""
        return self._both()[0]

    @property
    def host(self) -> WorkflowHost:
        """See `WFE.host`."""
        return self._both()[1]

    def _both(self) -> tuple[PostgresPersistenceProvider, WorkflowHost]:
        if not self._made:
            provider = self._make_provider()
            # The first of several threads, without a lock that a fork could leave locked: neither has connected yet.
            host = self.wfe._make_host(provider, self._app, self.db, self._host_options)
            self._made.setdefault("both", (provider, host))
        return self._made["both"]

    def _make_provider(self) -> PostgresPersistenceProvider:
        key = self.wfe.bind_key
        name = "SQLALCHEMY_DATABASE_URI" if key is None else f"SQLALCHEMY_BINDS[{key!r}]"
        engine: Engine | None = self.db.engines.get(key)
        if engine is None:
            raise ValueError(f"there is no database for the store of the workflows: {name} is not set")
        try:
            return PostgresPersistenceProvider.from_engine(engine, schema=self.wfe.schema)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _refuse_unknown(host_options: HostOptions) -> None:
    if unknown := host_options.keys() - HostOptions.__annotations__.keys():
        raise TypeError(f"WFE has no parameter {min(unknown)!r}")


def _transactions(provider: PostgresPersistenceProvider, app: Flask, db: SQLAlchemy) -> Callable[[], Any]:
    """Transactions in which `db.session` is the session of the step."""
    steps = provider.step_transactions(db.session.session_factory)
    registry: Any = db.session.registry  # of the sessions of this factory

    @contextmanager
    def transaction() -> Iterator[tuple[PostgresRepositories, Session]]:
        with app.app_context(), steps() as (repositories, session):
            registry.set(session)
            try:
                yield repositories, session
            finally:
                registry.clear()  # what the end of the context runs has a session of its own

    return transaction
