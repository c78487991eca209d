"""`using()`: the sessions and connections that it accepts, and that it does not change their settings."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.rows import dict_row, namedtuple_row, scalar_row, tuple_row
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from wfe_postgres import (
    ExecutionError,
    PersistenceError,
    PostgresEventRepository,
    PostgresPersistenceProvider,
    PostgresRepositories,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import (
    at,
    command,
    created,
    event,
    from_now,
    full_workflow,
    has_event,
    subscription,
    workflow,
)

Provider = PostgresPersistenceProvider
UNREACHABLE = "postgresql+psycopg://nobody@nowhere.invalid/none"


class WrongDumper(Dumper):
    """A dumper that stores a wrong value."""

    def dump(self, obj: Any) -> Buffer:
        return b"7777777"


class WrongLoader(Loader):
    """A loader that returns a wrong value."""

    def load(self, data: Buffer) -> str:
        return "wrong"


TYPES = (
    "text",
    "int2",
    "int4",
    "int8",
    "bool",
    "float8",
    "numeric",
    "json",
    "jsonb",
    "timestamptz",
    "timestamp",
    "varchar",
)


def customized_connection(url: str, *, autocommit: bool) -> psycopg.Connection[Any]:
    """A connection with its own adapters, factories and session parameters."""
    connection = psycopg.connect(url, autocommit=autocommit, row_factory=dict_row, cursor_factory=ClientCursor)
    connection.prepare_threshold = 0
    connection.execute("SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET search_path = 'nowhere'")
    connection.commit()
    set_json_loads(lambda text: "wrong", connection)
    set_json_dumps(lambda value: "7777777", connection)
    for kind in (str, int, bool, float, dict, list):
        connection.adapters.register_dumper(kind, WrongDumper)
    for name in TYPES:
        connection.adapters.register_loader(name, WrongLoader)
    return connection


def settings_of(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """The settings of a connection that an application can change."""
    adapters = connection.adapters
    return {
        "autocommit": connection.autocommit,
        "isolation_level": connection.isolation_level,
        "read_only": connection.read_only,
        "deferrable": connection.deferrable,
        "row_factory": connection.row_factory,
        "cursor_factory": connection.cursor_factory,
        "prepare_threshold": connection.prepare_threshold,
        "prepared_max": connection.prepared_max,
        "status": connection.info.transaction_status,
        "dumpers": {kind: adapters.get_dumper(kind, psycopg.adapt.PyFormat.AUTO) for kind in (str, int, dict, list)},
        "loaders": {
            name: adapters.get_loader(psycopg.adapters.types[name].oid, psycopg.pq.Format.TEXT) for name in TYPES
        },
        "notice handlers": list(connection._notice_handlers),
        "encoding": connection.info.encoding,
        "parameters": {
            name: connection.info.parameter_status(name)
            for name in ("TimeZone", "DateStyle", "client_encoding", "application_name")
        },
    }


def use_everything(provider: PostgresRepositories) -> None:
    """Make every kind of call, and check that stored values are returned unchanged."""
    instance = full_workflow()
    provider.create_new_workflow(instance)
    loaded = provider.get_workflow_instance(instance.id)
    assert loaded == instance
    loaded.data = {"text": "ä", "numbers": [1, 2.5, 1e20]}
    loaded.execution_pointers.reverse()
    provider.persist_workflow_with_subscriptions(loaded, [subscription(id="s1", subscription_data={"a": [1]})])
    assert provider.get_workflow_instances([instance.id]) == [loaded]
    assert provider.get_workflow_instance_by_name(instance.name) == loaded
    loaded.revision = None
    provider.persist_workflow(loaded)
    provider.create_new_workflow(runnable := workflow(next_execution=5))
    assert provider.get_runnable_instances(at(0), 10) == [runnable.id]
    assert [provider.next_definition_sequence("order") for _ in range(2)] == [1, 2]
    provider.create_event(happened := event(event_data={"amount": 1}))
    assert provider.get_event(happened.id) == happened
    assert provider.get_runnable_events(at(0), 1) == [happened.id]
    provider.mark_event_processed(happened.id)
    assert provider.get_event(happened.id).is_processed
    assert provider.get_subscription("s1").subscription_data == {"a": [1]}
    assert provider.set_subscription_token("s1", "mine", "worker", from_now(60))
    assert not provider.set_subscription_token("s1", "other", "worker", from_now(60))
    assert provider.get_first_open_subscription("paid", "order-1", at(0)) is None
    provider.clear_subscription_token("s1", "mine")
    provider.schedule_command(due := command("a"))
    seen: list[Any] = []
    assert provider.process_commands(at(1), seen.append) == 1
    assert seen == [due]
    provider.persist_errors([ExecutionError(instance.id, "p", "failed", error_time=at(0))])
    assert provider.get_execution_errors() == [ExecutionError(instance.id, "p", "failed", error_time=at(0))]
    assert len(provider.find_workflows(version=3, limit=5).items) == 1
    statistics = provider.get_statistics()
    assert statistics.workflows[WorkflowStatus.RUNNABLE] == 1
    assert statistics.schema_revision is not None
    assert abs(statistics.clock_offset) < 60
    provider.delete_workflow(instance.id)
    assert provider.purge_events(at(1)) == 1


@pytest.mark.parametrize("autocommit", [False, True])
def test_customized_psycopg_connection_works_and_keeps_its_settings(
    provider: Provider, database_url: str, autocommit: bool
) -> None:
    """Custom dumpers, loaders, factories and parameters do not affect the calls, and are not changed by them."""
    with customized_connection(database_url, autocommit=autocommit) as connection:
        before = settings_of(connection)
        tx = provider.using(connection)
        assert settings_of(connection) == before
        with connection.transaction():
            inside = settings_of(connection)
            use_everything(tx)
            assert settings_of(connection) == inside
        assert settings_of(connection) == before
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": "wrong"}
        connection.rollback()
        assert settings_of(connection) == before


@pytest.mark.parametrize("row_factory", [tuple_row, dict_row, namedtuple_row, scalar_row])
def test_calls_ignore_and_keep_the_row_factory(provider: Provider, database_url: str, row_factory: Any) -> None:
    """The calls work with any row factory of the connection and leave it set."""
    with psycopg.connect(database_url, row_factory=row_factory) as connection:
        use_everything(provider.using(connection))
        assert connection.row_factory is row_factory
        connection.rollback()


def test_autocommit_connection_commits_each_statement(provider: Provider, database_url: str) -> None:
    """Without a transaction block each statement commits on its own, and the connection stays in autocommit."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        tx = provider.using(connection)
        id = tx.create_event(event())
        assert has_event(provider, id)
        instance = created(tx, workflow())
        instance.revision = None
        instance.description = "unconditional"
        tx.persist_workflow(instance)
        assert provider.get_workflow_instance(instance.id) == instance
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert connection.autocommit


def test_savepoint_in_autocommit_is_rejected(provider: Provider, database_url: str) -> None:
    """`transaction()` on an autocommit connection raises `PersistenceError` rather than a psycopg error."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(PersistenceError), provider.using(connection).transaction() as tx:
            tx.create_event(event(id="event-1"))
        assert not has_event(provider, "event-1")


def test_sqlalchemy_connection_keeps_its_execution_options(provider: Provider, database_url: str) -> None:
    """Execution options and the transaction state are unchanged, on a connection and in a session."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execution_options(schema_translate_map={None: "nowhere"}, own="mine")
        before = dict(connection.get_execution_options())
        use_everything(provider.using(connection))
        assert dict(connection.get_execution_options()) == before
        assert connection.in_transaction()
        connection.rollback()
    with Session(engine) as session, session.begin():
        use_everything(provider.using(session))
        assert session.is_active
        assert session.in_transaction()
        session.rollback()
    engine.dispose()


def test_schema_translate_map_of_the_caller_is_ignored(provider: Provider, database_url: str) -> None:
    """A `schema_translate_map` on the caller's connection does not affect the provider's statements."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execution_options(schema_translate_map={"wfc": "nowhere"})
        use_everything(provider.using(connection))
        connection.rollback()
    engine.dispose()


class FakePg8000:
    """The part of the pg8000 module that `create_engine` needs; it does not connect."""

    paramstyle = "format"
    __version__ = "1.31.0"
    Error = InterfaceError = Exception

    @staticmethod
    def connect(*_: object, **__: object) -> None:
        pytest.fail("the provider connected through an unsupported driver")


def sqlite() -> Engine:
    """A working engine for SQLite."""
    return create_engine("sqlite://", poolclass=NullPool)


def pg8000() -> Engine:
    """An engine for PostgreSQL with the pg8000 driver, which cannot connect."""
    return create_engine("postgresql+pg8000://", module=FakePg8000)


UNSUPPORTED: dict[str, Callable[[], Any]] = {
    "Session on SQLite": lambda: Session(sqlite()),
    "scoped_session on SQLite": lambda: scoped_session(sessionmaker(sqlite())),
    "Session on pg8000": lambda: Session(pg8000()),
    "psycopg.AsyncConnection": lambda: object.__new__(psycopg.AsyncConnection),
    "Engine": lambda: create_engine(UNREACHABLE),
    "sessionmaker": lambda: sessionmaker(create_engine(UNREACHABLE)),
    "URL": lambda: UNREACHABLE,
    "None": lambda: None,
}


@pytest.mark.parametrize("make", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_using_rejects_unsupported_objects(provider: Provider, make: Callable[[], Any]) -> None:
    """A ValueError at the first call at the latest, without an attempt to connect."""
    unsupported = make()
    with pytest.raises(ValueError, match="psycopg"):
        provider.using(unsupported).get_runnable_events(at(0))
    if isinstance(unsupported, (Session, scoped_session)):
        unsupported.close()


def test_using_rejects_connections_of_other_drivers(provider: Provider) -> None:
    """A SQLAlchemy connection to SQLite, and the sqlite3 connection itself."""
    with sqlite().connect() as connection:
        for unsupported in (connection, connection.connection.driver_connection):
            with pytest.raises(ValueError, match="psycopg"):
                provider.using(unsupported).get_runnable_events(at(0))  # type: ignore[arg-type]


def test_from_engine_rejects_other_drivers() -> None:
    """A ValueError for engines of other drivers and for objects that are not engines."""
    others: list[Any] = [sqlite(), pg8000(), UNREACHABLE, None]
    for engine in others:
        with pytest.raises(ValueError, match="psycopg"):
            Provider.from_engine(engine)


def test_repository_rejects_other_drivers() -> None:
    """A repository created directly raises ValueError as the provider does, for sessions and sessionmakers."""
    unsupported: list[Any] = [Session(sqlite()), sessionmaker(sqlite()), sessionmaker(pg8000()), sqlite(), None]
    for session_or_maker in unsupported:
        with pytest.raises(ValueError, match="psycopg"):
            PostgresEventRepository(session_or_maker).get_runnable_events(at(0))
    unsupported[0].close()
