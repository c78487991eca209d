"""The PostgreSQL server for the test suite, and a separate database for each test that requests one.

The server is the one that WFE_TEST_DATABASE_URL names, or else an embedded one. All URLs are plain strings, so
that a test can pass them to spawned or forked processes.
"""

import gc
import multiprocessing
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from typing import Any, Literal, Protocol
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql as compose
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import QueuePool

from tests.faults.kit import counters
from tests.faults.kit.form import LONG
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgresError, temporary_postgres
from wfe_postgres.schema import upgrade

VARIABLE = "WFE_TEST_DATABASE_URL"

# Seconds for which pg_stat_activity may still list the backend of a closed connection or a killed process.
GRACE = 5.0

MAY_CREATE = "SELECT current_user, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"

LEAKS = """
    SELECT format('process %%s is %%s after: %%s', pid, state, query)
    FROM pg_stat_activity WHERE datname = %(name)s AND state LIKE 'idle in transaction%%'
    UNION ALL
    SELECT format('process %%s %%s a lock: %%s', pid, CASE WHEN granted THEN 'holds' ELSE 'waits for' END, locktype)
    FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE datname = %(name)s AND (locktype = 'advisory' OR NOT granted)
"""


def pytest_configure() -> None:
    """Restore the SIGINT handler: a shell ignores SIGINT in background jobs, and subprocesses inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counters and measurements of the fault tests in their long form."""
    if LONG:
        terminalreporter.section("faults")
        for line in counters.lines():
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def no_thread_remains() -> Iterator[None]:
    """Check that all threads of providers, services and hosts have ended after the test."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + GRACE
    while left := [it for it in threading.enumerate() if it not in before and it.name.startswith("wfe")]:
        gc.collect()
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


class Sql(Protocol):
    """Runs one statement and returns its rows, or an empty list for a statement that returns no rows."""

    def __call__(
        self, statement: str, parameters: Sequence[Any] | dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]: ...


class InProcesses(Protocol):
    """Calls a module-level function once for each argument tuple, each in a separate process.

    All processes start the call at the same time. Returns the results in the order of the arguments. An exception
    in a process is raised here; the test fails if a process dies or does not finish within `timeout` seconds.
    """

    def __call__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        method: Literal["spawn", "fork"] = "spawn",
        timeout: float = 60.0,
    ) -> list[Any]: ...


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a database on the server, whose user may create databases."""
    try:
        with temporary_postgres(VARIABLE) as url:
            url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            _require_createdb(url)
            yield url
    except EmbeddedPostgresError as error:
        pytest.exit(f"{error} (or set {VARIABLE})", returncode=2)


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated, empty database without connections, to copy from."""
    with _new_database(server, "template0") as url:
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        upgrade(engine)
        engine.dispose()
        yield str(make_url(url).database)


@pytest.fixture
def database_url(server: str, template: str) -> Iterator[str]:
    """A migrated database for this test. The test fails if a transaction is still open there when it ends."""
    with _new_database(server, template) as url:
        yield url
        _check_for_leaks(server, str(make_url(url).database))


@pytest.fixture
def empty_database_url(server: str) -> Iterator[str]:
    """Like `database_url`, but without a schema."""
    with _new_database(server, "template0") as url:
        yield url
        _check_for_leaks(server, str(make_url(url).database))


@pytest.fixture
def provider(database_url: str) -> Iterator[PostgresPersistenceProvider]:
    """A provider on `database_url`, closed after the test; all connections must be back in its pool by then."""
    with PostgresPersistenceProvider(database_url) as provider:
        yield provider
        assert isinstance(provider.engine.pool, QueuePool)
        assert provider.engine.pool.checkedout() == 0


@pytest.fixture
def sql(request: pytest.FixtureRequest) -> Iterator[Sql]:
    """Runs SQL on this test's database, on a separate autocommit connection that bypasses the provider."""
    empty = "empty_database_url" in request.fixturenames
    url: str = request.getfixturevalue("empty_database_url" if empty else "database_url")
    with psycopg.connect(url, autocommit=True) as connection:

        def run(statement: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def in_processes() -> InProcesses:
    """See `InProcesses`."""

    def run(
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        method: Literal["spawn", "fork"] = "spawn",
        timeout: float = 60.0,
    ) -> list[Any]:
        # get_context() is overloaded for literal names only, and BaseContext has no Process attribute.
        context: Any = multiprocessing.get_context(method)
        start = context.Barrier(len(arguments))
        pipes, workers = [], []
        with warnings.catch_warnings():
            # Python 3.12 warns about a fork in a multi-threaded process; the tests check that it works.
            warnings.simplefilter("ignore", DeprecationWarning)
            for each in arguments:
                pipe, far_end = context.Pipe(duplex=False)
                worker = context.Process(target=_work, args=(function, each, start, far_end), daemon=True)
                worker.start()
                # Close our copy, so that the death of the worker shows up as end of file on the pipe.
                far_end.close()
                pipes.append(pipe)
                workers.append(worker)
        try:
            deadline = time.monotonic() + timeout
            results = [_result_of(pipe, deadline) for pipe in pipes]
            for worker in workers:
                worker.join()
            return results
        finally:
            for pipe, worker in zip(pipes, workers, strict=True):
                worker.kill()
                worker.join()
                worker.close()
                pipe.close()

    return run


def _work(function: Callable[..., Any], arguments: tuple[Any, ...], start: Barrier, result: "Pipe[Any, Any]") -> None:
    start.wait()
    try:
        result.send((function(*arguments), None))
    except BaseException as error:
        result.send((None, error))


def _result_of(pipe: "Pipe[Any, Any]", deadline: float) -> Any:
    if not pipe.poll(max(0.0, deadline - time.monotonic())):
        pytest.fail("a process did not finish within the timeout")
    try:
        result, error = pipe.recv()
    except EOFError:
        pytest.fail("a process died")
    if error is not None:
        raise error
    return result


def _require_createdb(server: str) -> None:
    """Exit with a one-line message if the server is unreachable or its user may not create databases."""
    try:
        with psycopg.connect(server) as connection:
            user, may_create = connection.execute(MAY_CREATE).fetchone() or ("", False)
    except psycopg.OperationalError as error:
        pytest.exit(f"{VARIABLE}: {str(error).splitlines()[0]}", returncode=2)
    if not may_create:
        pytest.exit(f"{VARIABLE}: the tests create databases, so its user needs: ALTER ROLE {user} CREATEDB", 2)


@contextmanager
def _new_database(server: str, template: str) -> Iterator[str]:
    """A database that is dropped when the context ends; remaining connections are terminated."""
    name = f"wfe_{uuid4().hex}"
    database = compose.Identifier(name)
    create = compose.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(create.format(database, compose.Identifier(template)))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(compose.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


def _check_for_leaks(server: str, name: str) -> None:
    """Fail if a backend of the database has an open transaction, holds an advisory lock or waits for a lock."""
    deadline = time.monotonic() + GRACE
    with psycopg.connect(server, autocommit=True) as connection:
        while leaks := connection.execute(LEAKS, {"name": name}).fetchall():
            if time.monotonic() > deadline:
                pytest.fail("\n".join(leak for (leak,) in leaks))
            time.sleep(0.01)
