"""Each call goes through SQLAlchemy's execution and executes the expected number of statements."""

import inspect
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url

from tests.protocol.calls import ALL, NO_CALLS, ONE_ROUND_TRIP, Counted
from tests.provider.databases import statements_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at


@pytest.mark.parametrize("counted", ALL.values(), ids=ALL)
def test_call_executes_expected_number_of_statements(shared: PostgresPersistenceProvider, counted: Counted) -> None:
    """The expected number is declared in `calls.py`."""
    call = counted.prepare(shared)
    with statements_of(shared.engine) as seen:
        call()
    assert len(seen) == counted.statements, seen


@pytest.mark.parametrize("name", ["before_cursor_execute", "after_cursor_execute"])
def test_engine_event_listener_is_called_once_per_call(shared: PostgresPersistenceProvider, name: str) -> None:
    """A listener on the engine of the provider is called once for each call, as for any other statement."""
    received: list[Any] = []

    def listen(*arguments: Any) -> None:
        received.append(arguments)

    calls = {call: prepare(shared) for call, prepare in ONE_ROUND_TRIP.items()}
    engine = shared.engine
    event.listen(engine, name, listen)
    try:
        not_received = []
        for call in calls:
            received.clear()
            calls[call]()
            if len(received) != 1:
                not_received.append(call)
        assert not_received == []
    finally:
        event.remove(engine, name, listen)


def test_every_public_method_has_a_declared_call() -> None:
    """Every public name of the provider is either in `ALL` or in `NO_CALLS`."""
    public = {name for name, _ in inspect.getmembers(PostgresPersistenceProvider) if not name.startswith("_")}
    counted = {name.split(",")[0].split(" ")[0] for name in ALL}
    assert counted | NO_CALLS == public


def test_transaction_block_executes_no_additional_statements(shared: PostgresPersistenceProvider) -> None:
    """Calls in a transaction block execute the same statements as elsewhere."""
    with statements_of(shared.engine) as seen, shared.transaction() as tx:
        tx.next_definition_sequence("order")
        tx.get_runnable_events(at(0))
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["create_new_workflow", "persist_workflow of a copy", "get_statistics"])
def test_echo_logs_statements_without_values(database_url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """`echo=True` logs each statement, but no parameter values."""
    with PostgresPersistenceProvider(database_url, echo=True) as provider:
        call = ALL[name].prepare(provider)
        caplog.clear()
        call()
    logged = [it.getMessage() for it in caplog.records if it.name.startswith("sqlalchemy.engine")]
    assert sum("wfc." in it for it in logged) == 1
    assert not any("first" in it for it in logged)


def test_listeners_of_application_engine_are_called(database_url: str) -> None:
    """Listeners added before the provider was created (as a tracing library does) and after."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    received: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *it: received.append("before"))
    provider = PostgresPersistenceProvider.from_engine(engine)
    event.listen(engine, "before_cursor_execute", lambda *it: received.append("after"))
    with engine.connect():
        received.clear()
    provider.next_definition_sequence("order")
    engine.dispose()
    assert received == ["before", "after"]
