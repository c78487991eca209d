"""Each call goes through SQLAlchemy's own execution path, and is as many statements as it should be."""

import inspect
from typing import Any

import pytest
from sqlalchemy import create_engine, event, make_url

from tests.protocol.calls import ALL, NO_CALLS, ONE_ROUND_TRIP, Counted
from tests.provider.databases import statements_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at


@pytest.mark.parametrize("counted", ALL.values(), ids=ALL)
def test_the_statements_of_a_call(shared: PostgresPersistenceProvider, counted: Counted) -> None:
    """Whoever adds one to a call has to say so in `calls.py`."""
    call = counted.prepare(shared)
    with statements_of(shared.engine) as seen:
        call()
    assert len(seen) == counted.statements, seen


@pytest.mark.parametrize("name", ["before_cursor_execute", "after_cursor_execute"])
def test_engine_events(shared: PostgresPersistenceProvider, name: str) -> None:
    """A listener on the provider's engine hears of each call once, as of a statement of the application's own."""
    heard: list[Any] = []

    def listen(*arguments: Any) -> None:
        heard.append(arguments)

    calls = {call: prepare(shared) for call, prepare in ONE_ROUND_TRIP.items()}
    engine = shared.engine
    event.listen(engine, name, listen)
    try:
        unheard = []
        for call in calls:
            heard.clear()
            calls[call]()
            if len(heard) != 1:
                unheard.append(call)
        assert unheard == []
    finally:
        event.remove(engine, name, listen)


def test_no_call_is_left_out() -> None:
    """Every public name of the provider is either counted or known to send nothing."""
    public = {name for name, _ in inspect.getmembers(PostgresPersistenceProvider) if not name.startswith("_")}
    counted = {name.split(",")[0].split(" ")[0] for name in ALL}
    assert counted | NO_CALLS == public


def test_a_transaction_adds_nothing_but_begin_and_commit(shared: PostgresPersistenceProvider) -> None:
    """Calls in a block are the statements they are elsewhere."""
    with statements_of(shared.engine) as seen, shared.transaction() as tx:
        tx.next_definition_sequence("order")
        tx.get_runnable_events(at(0))
    assert len(seen) == 2


@pytest.mark.parametrize("name", ["create_new_workflow", "persist_workflow of a copy", "get_statistics"])
def test_echo_shows_the_statements(database_url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """`echo=True` logs each, and none of the values."""
    with PostgresPersistenceProvider(database_url, echo=True) as provider:
        call = ALL[name].prepare(provider)
        caplog.clear()
        call()
    logged = [it.getMessage() for it in caplog.records if it.name.startswith("sqlalchemy.engine")]
    assert sum("wfc." in it for it in logged) == 1
    assert not any("first" in it for it in logged)


def test_an_applications_engine_sees_them_too(database_url: str) -> None:
    """Listeners that were set before the provider was made, as a tracing library sets them, and after."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    heard: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *it: heard.append("before"))
    provider = PostgresPersistenceProvider.from_engine(engine)
    event.listen(engine, "before_cursor_execute", lambda *it: heard.append("after"))
    with engine.connect():
        heard.clear()
    provider.next_definition_sequence("order")
    engine.dispose()
    assert heard == ["before", "after"]
