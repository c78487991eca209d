"""Every call returns or raises within its timeout, despite network faults and locks of other sessions.

The calls run concurrently. Each has its own provider, proxy and database.
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
"""How much later than its timeout a call may end, in seconds."""

CONCURRENT_CALLS = 15
"""The number of concurrent calls, limited by the connections of the server: each call uses two."""

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
class Environment:
    """A provider, the proxy that it connects through, and the URL of its database without the proxy."""

    provider: Provider
    proxy: TcpProxy
    direct: str


@dataclass
class Result:
    """The error of a call, if any, and its duration."""

    error: BaseException | None
    seconds: float


Injection = Callable[[Environment], AbstractContextManager[None]]


@contextmanager
def faulty(make: Callable[[], Fault], environment: Environment, *, connected: bool = True) -> Iterator[None]:
    """Set this fault of the proxy for the pooled connection or, if not `connected`, for a new connection."""
    if not connected:
        environment.provider.engine.dispose()
    environment.proxy.fault = make()
    yield
    environment.proxy.fault = PASS


@contextmanager
def locked(statement: str, environment: Environment) -> Iterator[None]:
    """Another session has executed the statement on each table in an open transaction."""
    with psycopg.connect(environment.direct) as other:
        for table in Base.metadata.sorted_tables:
            other.execute(statement.format(table.fullname).encode())
        yield
        other.rollback()


FAULTS: dict[str, Injection] = {
    "connection accepted without an answer": partial(faulty, lambda: Silence(requests=False), connected=False),
    "request not forwarded": partial(faulty, lambda: Silence(requests=False)),
    "answer not forwarded": partial(faulty, Silence),
    "answer truncated": partial(faulty, lambda: Silence(answers=20)),
    "one byte per second": partial(faulty, Trickle),
    "locked rows": partial(locked, "SELECT FROM {} FOR UPDATE"),
    "locked tables": partial(locked, "LOCK TABLE {}"),
}
SHORT = ["connection accepted without an answer", "answer not forwarded", "locked rows"]


def groups() -> Iterator[list[str]]:
    """The names of the calls, in groups that run concurrently."""
    names = runs(SOME, list(CALLS))
    return (names[start : start + CONCURRENT_CALLS] for start in range(0, len(names), CONCURRENT_CALLS))


@contextmanager
def environment(server: str, template: str, *, warm: bool = True) -> Iterator[Environment]:
    """Create a database, a proxy and a provider with a pool of one connection, which is opened if `warm`."""
    with (
        migrated_database(server, template) as direct,
        TcpProxy(direct) as proxy,
        Provider(proxy.url, call_timeout=TIMEOUT, pool_size=1) as provider,
    ):
        if warm:
            provider.get_statistics()
        yield Environment(provider, proxy, direct)
        assert isinstance(provider.engine.pool, QueuePool)
        assert provider.engine.pool.checkedout() == 0


@pytest.fixture(autouse=True)
def no_resource_remains(server: str, template: str) -> Iterator[None]:
    """Check that the test leaves no thread and no open file."""
    threads, files = set(threading.enumerate()), open_files()
    yield
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= threads)
    wait_until(lambda: open_files() <= files)


def open_files() -> int:
    """Return the number of open file descriptors, including sockets."""
    return len(list(Path("/dev/fd").iterdir()))


def timed(call: Call) -> Result:
    """Make the call and measure it. A failed assertion in the call is recorded as its error."""
    began = time.monotonic()
    error: BaseException | None = None
    try:
        call()
    except (WfeError, AssertionError) as caught:
        error = caught
    return Result(error, time.monotonic() - began)


def all_timed(calls: dict[str, Call], environments: dict[str, Environment]) -> dict[str, Result]:
    """Make the calls concurrently. Connections are cut after the timeout, so that a hanging call ends and is late."""
    with ThreadPoolExecutor(len(calls)) as threads:
        running = [threads.submit(timed, call) for call in calls.values()]
        wait(running, timeout=TIMEOUT + 2 * SLACK)
        for environment in environments.values():
            environment.proxy.cut()
        return {name: future.result() for name, future in zip(calls, running, strict=True)}


@pytest.mark.parametrize("fault", runs(SHORT, list(FAULTS)))
def test_every_call_ends_within_its_timeout_under_a_fault(server: str, template: str, fault: str) -> None:
    """A call with a definite error has no effect, and the next call of the provider succeeds."""
    for names in groups():
        with ExitStack() as stack:
            environments = {name: stack.enter_context(environment(server, template)) for name in names}
            check(environments, FAULTS[fault])
        counters.count(f"every call ends: {fault}", faults=len(names))


def check(environments: dict[str, Environment], fault: Injection) -> None:
    """Make the calls under the fault, and check duration, effect and the next call."""
    calls = {name: CALLS[name](environment.provider) for name, environment in environments.items()}
    before = {name: contents(environment.direct) for name, environment in environments.items()}
    with ExitStack() as stack:
        for environment in environments.values():
            stack.enter_context(fault(environment))
        outcomes = all_timed(calls, environments)
    assert not late(outcomes)
    for name, environment in environments.items():
        error = outcomes[name].error
        if isinstance(error, WfeError) and not isinstance(error, OutcomeUnknownError):
            assert contents(environment.direct) == before[name], f"{name} had an effect and raised {error!r}"
        assert timed(environment.provider.get_statistics).error is None


def late(outcomes: dict[str, Result]) -> dict[str, float]:
    """Return the calls that ended too late, with their durations."""
    return {name: it.seconds for name, it in outcomes.items() if it.seconds > TIMEOUT + SLACK}


def test_first_call_of_an_engine_ends_within_its_timeout_when_the_server_is_silent(server: str, template: str) -> None:
    """The server does not answer the version query that SQLAlchemy sends on the first connection."""
    with environment(server, template, warm=False) as it:
        it.proxy.fault = SilentAfter(b"version()")
        ended = all_timed({"first": partial(it.provider.create_event, event())}, {"": it})
        assert not late(ended)
        assert isinstance(ended["first"].error, PersistenceError)
        it.proxy.fault = PASS
        it.provider.create_event(event())
        assert len(it.provider.get_runnable_events(at(0))) == 1


def test_call_ends_within_its_timeout_when_the_tcp_handshake_is_not_answered(database_url: str) -> None:
    """The packets are dropped, as by a firewall."""
    with unresponsive_port() as port:
        url = make_url(database_url).set(host="127.0.0.1", port=port, query={})
        with Provider(url, call_timeout=TIMEOUT) as provider:
            ended = timed(provider.get_statistics)
        assert isinstance(ended.error, PersistenceError)
        assert ended.error.retryable
        assert not late({"": ended})


@contextmanager
def unresponsive_port() -> Iterator[int]:
    """A port with a full accept queue, so that the kernel drops further connections."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def commit(provider: Provider, stop_answers: Callable[[], None]) -> None:
    """The answer to COMMIT is lost."""
    with provider.transaction() as tx:
        tx.create_event(event())
        stop_answers()


def roll_back(provider: Provider, stop_answers: Callable[[], None]) -> None:
    """The block raises, and the answer to ROLLBACK is lost."""
    with provider.transaction() as tx:
        tx.create_event(event())
        stop_answers()
        raise PersistenceError("raised in the block")


def save_point(provider: Provider, stop_answers: Callable[[], None]) -> None:
    """The answer to SAVEPOINT is lost."""
    with provider.transaction() as tx:
        tx.create_event(event())
        stop_answers()
        with tx.transaction():
            pass


def release_point(provider: Provider, stop_answers: Callable[[], None]) -> None:
    """The answer to RELEASE is lost."""
    with provider.transaction() as tx, tx.transaction() as inner:
        inner.create_event(event())
        stop_answers()


Block = Callable[[Provider, Callable[[], None]], None]


def test_transaction_blocks_end_within_the_timeout_when_answers_are_lost(server: str, template: str) -> None:
    """COMMIT, ROLLBACK, SAVEPOINT and RELEASE are subject to the timeout."""
    blocks: list[Block] = [commit, roll_back, save_point, release_point]
    with ExitStack() as stack:
        environments = {block.__name__: stack.enter_context(environment(server, template)) for block in blocks}
        calls: dict[str, Call] = {
            block.__name__: partial(block, it.provider, partial(setattr, it.proxy, "fault", Silence()))
            for block, it in zip(blocks, environments.values(), strict=True)
        }
        ended = all_timed(calls, environments)
        assert not late(ended)
        assert isinstance(ended["commit"].error, OutcomeUnknownError)
        assert all(isinstance(it.error, PersistenceError) for it in ended.values())
        for name, it in environments.items():
            it.proxy.fault = PASS
            assert len(it.provider.get_runnable_events(at(0))) == (1 if name == "commit" else 0)
