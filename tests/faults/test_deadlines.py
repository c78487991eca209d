"""Every call ends: whatever the network does and whoever holds a lock, it returns or raises within its deadline.

The calls are made all at once, each by a provider, a proxy and a database of its own.
"""

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.pool import QueuePool

from tests.faults.kit import counters
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, Fault, Silence, SilentAfter, TcpProxy, Trickle
from tests.protocol.calls import ONE_ROUND_TRIP, OTHERS, Call, Prepare
from tests.provider.databases import contents, migrated_database, wait_until
from wfe_postgres import OutcomeUnknownError, PersistenceError, PostgresPersistenceProvider, WfeError
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import at, event

Provider = PostgresPersistenceProvider

TIMEOUT = runs(2.0, 5.0)
SLACK = 1.0
"""How much later than its deadline a call may end, in seconds."""

AT_ONCE = 15
"""So many calls; two connections each are what the server has room for."""

CALLS: dict[str, Prepare] = ONE_ROUND_TRIP | {name: counted.prepare for name, counted in OTHERS.items()}
SOME = [
    "create_new_workflow",
    "persist_workflow of 10, 1 changed",
    "persist_workflow, unconditional",
    "get_workflow_instance",
    "set_subscription_token, open",
    "process_commands of 3",
    "ensure_store_exists",
]


@dataclass
class Line:
    """A provider, the proxy that it goes through, and the way past it."""

    provider: Provider
    proxy: TcpProxy
    direct: str


@dataclass
class Ended:
    """What came of a call, and how long it took."""

    error: BaseException | None
    seconds: float


Harm = Callable[[Line], AbstractContextManager[None]]


@contextmanager
def faulty(make: Callable[[], Fault], line: Line, *, connected: bool = True) -> Iterator[None]:
    """The network does this, to a connection of the pool or, if not `connected`, to a new one."""
    if not connected:
        line.provider.engine.dispose()
    line.proxy.fault = make()
    yield
    line.proxy.fault = PASS


@contextmanager
def locked(statement: str, line: Line) -> Iterator[None]:
    """Another session has done this to each table, and is still in its transaction."""
    with psycopg.connect(line.direct) as other:
        for table in Base.metadata.sorted_tables:
            other.execute(statement.format(table.fullname).encode())
        yield
        other.rollback()


HARMS: dict[str, Harm] = {
    "a peer that accepts and says nothing": partial(faulty, lambda: Silence(requests=False), connected=False),
    "silent on the request": partial(faulty, lambda: Silence(requests=False)),
    "silent on the answer": partial(faulty, Silence),
    "silent in mid-answer": partial(faulty, lambda: Silence(answers=20)),
    "a byte a second": partial(faulty, Trickle),
    "locked rows": partial(locked, "SELECT FROM {} FOR UPDATE"),
    "locked tables": partial(locked, "LOCK TABLE {}"),
}
SHORT = ["a peer that accepts and says nothing", "silent on the answer", "locked rows"]


def groups() -> Iterator[list[str]]:
    """The calls that are made at once."""
    names = runs(SOME, list(CALLS))
    return (names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE))


@contextmanager
def line(server: str, template: str, *, warm: bool = True) -> Iterator[Line]:
    """To a database of its own, with a pool of one connection, which there is already if `warm`."""
    with (
        migrated_database(server, template) as direct,
        TcpProxy(direct) as proxy,
        Provider(proxy.url, call_timeout=TIMEOUT, pool_size=1) as provider,
    ):
        if warm:
            provider.get_statistics()
        yield Line(provider, proxy, direct)
        assert isinstance(provider.engine.pool, QueuePool)
        assert provider.engine.pool.checkedout() == 0


@pytest.fixture(autouse=True)
def nothing_left(server: str, template: str) -> Iterator[None]:
    """No thread and no open file is left behind."""
    threads, files = set(threading.enumerate()), open_files()
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= threads)
    wait_until(lambda: open_files() <= files)


def open_files() -> int:
    """How many this process has, sockets among them."""
    return len(list(Path("/dev/fd").iterdir()))


def timed(call: Call) -> Ended:
    """Make the call. That it is not what it expects of an undisturbed server is no failure here."""
    began = time.monotonic()
    error: BaseException | None = None
    try:
        call()
    except (WfeError, AssertionError) as caught:
        error = caught
    return Ended(error, time.monotonic() - began)


def all_timed(calls: dict[str, Call], lines: dict[str, Line]) -> dict[str, Ended]:
    """Make the calls at once, each on its line. One that does not end is set free and counts as late."""
    with ThreadPoolExecutor(len(calls)) as threads:
        running = [threads.submit(timed, call) for call in calls.values()]
        wait(running, timeout=TIMEOUT + 2 * SLACK)
        for line in lines.values():
            line.proxy.cut()
        return {name: future.result() for name, future in zip(calls, running, strict=True)}


@pytest.mark.parametrize("harm", runs(SHORT, list(HARMS)))
def test_every_call_ends(server: str, template: str, harm: str) -> None:
    """In time; with no effect where its error says so; and the next call works."""
    for names in groups():
        with ExitStack() as stack:
            lines = {name: stack.enter_context(line(server, template)) for name in names}
            check(lines, HARMS[harm])
        counters.count(f"every call ends: {harm}", faults=len(names))


def check(lines: dict[str, Line], harm: Harm) -> None:
    """Make the calls on their lines while these are harmed."""
    calls = {name: CALLS[name](line.provider) for name, line in lines.items()}
    before = {name: contents(line.direct) for name, line in lines.items()}
    with ExitStack() as stack:
        for line in lines.values():
            stack.enter_context(harm(line))
        outcomes = all_timed(calls, lines)
    assert not late(outcomes)
    for name, line in lines.items():
        error = outcomes[name].error
        if isinstance(error, WfeError) and not isinstance(error, OutcomeUnknownError):
            assert contents(line.direct) == before[name], f"{name} had an effect, and said {error!r}"
        assert timed(line.provider.get_statistics).error is None


def late(outcomes: dict[str, Ended]) -> dict[str, float]:
    """The calls that ended too late, with their seconds."""
    return {name: it.seconds for name, it in outcomes.items() if it.seconds > TIMEOUT + SLACK}


def test_the_first_call_of_all(server: str, template: str) -> None:
    """A new engine asks the server what it is; the answer to that does not come either."""
    with line(server, template, warm=False) as it:
        it.proxy.fault = SilentAfter(b"version()")
        ended = all_timed({"first": partial(it.provider.create_event, event())}, {"": it})
        assert not late(ended)
        assert isinstance(ended["first"].error, PersistenceError)
        it.proxy.fault = PASS
        it.provider.create_event(event())
        assert len(it.provider.get_runnable_events(at(0))) == 1


def test_a_port_that_drops_what_comes(database_url: str) -> None:
    """As behind a firewall that says nothing: the handshake itself does not end."""
    with deaf_port() as port:
        url = make_url(database_url).set(host="127.0.0.1", port=port, query={})
        with Provider(url, call_timeout=TIMEOUT) as provider:
            ended = timed(provider.get_statistics)
        assert isinstance(ended.error, PersistenceError)
        assert ended.error.retryable
        assert not late({"": ended})


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue is full, so that the system drops further connections."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def commit(provider: Provider, fall_silent: Callable[[], None]) -> None:
    """The answer to COMMIT does not come."""
    with provider.transaction() as tx:
        tx.create_event(event())
        fall_silent()


def roll_back(provider: Provider, fall_silent: Callable[[], None]) -> None:
    """The application's own error ends the block, and the answer to ROLLBACK does not come."""
    with provider.transaction() as tx:
        tx.create_event(event())
        fall_silent()
        raise PersistenceError("the application's own")


def save_point(provider: Provider, fall_silent: Callable[[], None]) -> None:
    """The answer to SAVEPOINT does not come."""
    with provider.transaction() as tx:
        tx.create_event(event())
        fall_silent()
        with tx.transaction():
            pass


def release_point(provider: Provider, fall_silent: Callable[[], None]) -> None:
    """The answer to RELEASE does not come."""
    with provider.transaction() as tx, tx.transaction() as inner:
        inner.create_event(event())
        fall_silent()


Block = Callable[[Provider, Callable[[], None]], None]


def test_every_block_ends(server: str, template: str) -> None:
    """So does each statement that a block makes of itself."""
    blocks: list[Block] = [commit, roll_back, save_point, release_point]
    with ExitStack() as stack:
        lines = {block.__name__: stack.enter_context(line(server, template)) for block in blocks}
        calls: dict[str, Call] = {
            block.__name__: partial(block, it.provider, partial(setattr, it.proxy, "fault", Silence()))
            for block, it in zip(blocks, lines.values(), strict=True)
        }
        ended = all_timed(calls, lines)
        assert not late(ended)
        assert isinstance(ended["commit"].error, OutcomeUnknownError)
        assert all(isinstance(it.error, PersistenceError) for it in ended.values())
        for name, it in lines.items():
            it.proxy.fault = PASS
            assert len(it.provider.get_runnable_events(at(0))) == (1 if name == "commit" else 0)
