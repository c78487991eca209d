"""What may be a place, and that a place is left as it was."""

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
NOWHERE = "postgresql+psycopg://nobody@nowhere.invalid/none"


class Shouting(Dumper):
    """A dumper that stores something else."""

    def dump(self, obj: Any) -> Buffer:
        return b"7777777"


class Deaf(Loader):
    """A loader that gives something else."""

    def load(self, data: Buffer) -> str:
        return "deaf"


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


def unlike_any_other(url: str, *, autocommit: bool) -> psycopg.Connection[Any]:
    """A connection on which everything is different."""
    connection = psycopg.connect(url, autocommit=autocommit, row_factory=dict_row, cursor_factory=ClientCursor)
    connection.prepare_threshold = 0
    connection.execute("SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET search_path = 'nowhere'")
    connection.commit()
    set_json_loads(lambda text: "deaf", connection)
    set_json_dumps(lambda value: "7777777", connection)
    for kind in (str, int, bool, float, dict, list):
        connection.adapters.register_dumper(kind, Shouting)
    for name in TYPES:
        connection.adapters.register_loader(name, Deaf)
    return connection


def settings_of(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """All that an application may have set on a connection."""
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
    """Every kind of call, and that it gives what was stored."""
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
def test_a_psycopg_connection_of_anothers_habits(provider: Provider, database_url: str, autocommit: bool) -> None:
    """Whatever dumpers, loaders, factories and settings it has: all calls work, and all is left as it was."""
    with unlike_any_other(database_url, autocommit=autocommit) as connection:
        before = settings_of(connection)
        tx = provider.using(connection)
        assert settings_of(connection) == before
        with connection.transaction():
            inside = settings_of(connection)
            use_everything(tx)
            assert settings_of(connection) == inside
        assert settings_of(connection) == before
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": "deaf"}
        connection.rollback()
        assert settings_of(connection) == before


@pytest.mark.parametrize("row_factory", [tuple_row, dict_row, namedtuple_row, scalar_row])
def test_row_factories(provider: Provider, database_url: str, row_factory: Any) -> None:
    """The application's rows are its own affair."""
    with psycopg.connect(database_url, row_factory=row_factory) as connection:
        use_everything(provider.using(connection))
        assert connection.row_factory is row_factory
        connection.rollback()


def test_a_psycopg_connection_in_autocommit(provider: Provider, database_url: str) -> None:
    """Without a transaction around it each statement is one, as for the application itself."""
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


def test_no_savepoint_without_a_transaction(provider: Provider, database_url: str) -> None:
    """In autocommit there is nothing to join: a `PersistenceError`, not the driver's."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        with pytest.raises(PersistenceError), provider.using(connection).transaction() as tx:
            tx.create_event(event(id="event-1"))
        assert not has_event(provider, "event-1")


def test_a_sqlalchemy_connection_keeps_its_options(provider: Provider, database_url: str) -> None:
    """Of the connection and of the session over it."""
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


def test_a_connection_in_another_schema(provider: Provider, database_url: str) -> None:
    """A caller's own translation of schemas does not lead ours astray."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execution_options(schema_translate_map={"wfc": "nowhere"})
        use_everything(provider.using(connection))
        connection.rollback()
    engine.dispose()


class Anothers:
    """Enough of another driver's module, pg8000, to make an engine that never connects."""

    paramstyle = "format"
    __version__ = "1.31.0"
    Error = InterfaceError = Exception

    @staticmethod
    def connect(*_: object, **__: object) -> None:
        pytest.fail("nobody should connect through this driver")


def sqlite() -> Engine:
    """An engine that works, of another kind of database."""
    return create_engine("sqlite://", poolclass=NullPool)


def pg8000() -> Engine:
    """An engine of another driver to PostgreSQL, which cannot connect."""
    return create_engine("postgresql+pg8000://", module=Anothers)


OTHER_PLACES: dict[str, Callable[[], Any]] = {
    "a Session on SQLite": lambda: Session(sqlite()),
    "a scoped_session on SQLite": lambda: scoped_session(sessionmaker(sqlite())),
    "a Session on pg8000": lambda: Session(pg8000()),
    "an asynchronous psycopg connection": lambda: object.__new__(psycopg.AsyncConnection),
    "an Engine": lambda: create_engine(NOWHERE),
    "a sessionmaker": lambda: sessionmaker(create_engine(NOWHERE)),
    "a URL": lambda: NOWHERE,
    "nothing": lambda: None,
}


@pytest.mark.parametrize("make", OTHER_PLACES.values(), ids=OTHER_PLACES)
def test_a_place_of_another_driver(provider: Provider, make: Callable[[], Any]) -> None:
    """A ValueError, at the latest at the first call, and not by way of a connection that fails."""
    place = make()
    with pytest.raises(ValueError, match="psycopg"):
        provider.using(place).get_runnable_events(at(0))
    if isinstance(place, (Session, scoped_session)):
        place.close()


def test_a_connection_of_another_driver(provider: Provider) -> None:
    """SQLAlchemy's, and the driver's own."""
    with sqlite().connect() as connection:
        for place in (connection, connection.connection.driver_connection):
            with pytest.raises(ValueError, match="psycopg"):
                provider.using(place).get_runnable_events(at(0))  # type: ignore[arg-type]


def test_an_engine_of_another_driver() -> None:
    """`from_engine` refuses it, and what is no engine."""
    others: list[Any] = [sqlite(), pg8000(), NOWHERE, None]
    for engine in others:
        with pytest.raises(ValueError, match="psycopg"):
            Provider.from_engine(engine)


def test_a_repository_on_another_driver() -> None:
    """A repository alone refuses it as the provider does, be it a session or a maker of sessions."""
    places: list[Any] = [Session(sqlite()), sessionmaker(sqlite()), sessionmaker(pg8000()), sqlite(), None]
    for place in places:
        with pytest.raises(ValueError, match="psycopg"):
            PostgresEventRepository(place).get_runnable_events(at(0))
    places[0].close()
