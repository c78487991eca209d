"""A connection of the pool keeps the cursor of a small call."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.connections.execution import PlainCursor
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider
MakeEngine = Callable[..., Engine]

pytestmark = pytest.mark.usefixtures("no_listener_of_another_test")


def calls(engine: Engine) -> None:
    """A write, and a read that finds one row."""
    provider = Provider.from_engine(engine)
    provider.get_event(provider.create_event(published()))


def test_cursor_is_kept_with_its_connection_and_used_again(make_engine: MakeEngine) -> None:
    engine = make_engine()
    calls(engine)
    [cursor] = kept_cursors(engine)
    Provider.from_engine(engine).get_workflow_instances(["unknown"])
    assert kept_cursors(engine) == [cursor]


@pytest.mark.parametrize("large", [{"event_data": "x" * 1_000_000}, {"event_data": ["x"] * 100_000}])
def test_nothing_large_of_a_call_is_kept_with_its_connection(make_engine: MakeEngine, large: dict[str, Any]) -> None:
    """Neither parameters, which a cursor keeps of what is not prepared, nor the result, of which libpq has a copy."""
    engine = make_engine()
    provider = Provider.from_engine(engine)
    calls(engine)
    with traced_memory() as grown:
        id = provider.create_event(replace(published(), **large))
        assert grown() < 10_000, "bytes of the parameters"
        provider.get_event(id)
        assert grown() < 10_000, "bytes of the result"
    [cursor] = kept_cursors(engine)
    assert cursor.pgresult
    assert cursor.pgresult.ntuples == 0, "the result is kept"


def test_cursor_ends_with_its_connection(make_engine: MakeEngine, sql: Sql) -> None:
    engine = make_engine()
    calls(engine)
    [cursor] = kept_cursors(engine)
    sql("SELECT pg_terminate_backend(%s)", [cursor.connection.info.backend_pid])
    for _ in range(2):  # the first makes a connection, in the ordinary way
        Provider.from_engine(engine).get_workflow_instances(["unknown"])
    [other] = kept_cursors(engine)
    assert other is not cursor
    assert cursor.connection.closed


@contextmanager
def traced_memory() -> Iterator[Callable[[], int]]:
    """Yields a function that returns by how many bytes Python's memory has grown in the block."""

    def traced() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = traced()
        yield lambda: traced() - before
    finally:
        tracemalloc.stop()


def kept_cursors(engine: Engine) -> list[PlainCursor]:
    """The cursors of this library on open connections to the engine's database."""
    gc.collect()
    # By type(): isinstance() asks a proxy, as Flask's are, for the class of what it stands for.
    cursors = [it for it in gc.get_objects() if type(it) is PlainCursor and not it.connection.closed]
    return [it for it in cursors if it.connection.info.dbname == engine.url.database]
