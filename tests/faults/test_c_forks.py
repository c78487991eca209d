"""Forks by C code, as in uWSGI, which run none of Python's fork hooks.

They take place in processes of their own: where another thread waits for the interpreter's lock, no child can run.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from sqlalchemy import create_engine, make_url

from tests.conftest import InProcesses
from tests.faults.kit import counters
from tests.faults.kit.form import runs
from tests.provider.databases import OURS
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, event

Provider = PostgresPersistenceProvider

CHILDREN = runs(4, 8)
CALLS = runs(100, 4000)
TIMEOUT = 1.0


def fork_by_c(function: Callable[[], object]) -> int:
    """Run the function in a child that is forked by C code; return the process id of the child."""
    sys.stdout.flush()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return int(pid)


def check_answers(provider: Provider, name: str) -> None:
    """Make calls with distinguishable answers, and check the answers."""
    for turn in range(CALLS):
        id = provider.create_event(event(event_name=name, event_data=[name, turn]))
        assert provider.get_event(id).event_data == [name, turn]
    assert len(provider.get_events(name, "order-1", at(0))) == CALLS


def run_children(provider: Provider) -> None:
    """Make calls in the parent and its children at the same time, and check their answers."""
    check_answers(provider, "before")
    children = [fork_by_c(partial(check_answers, provider, f"child {number}")) for number in range(CHILDREN)]
    check_answers(provider, "parent")
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * CHILDREN
    check_answers(provider, "after")


def count_children() -> None:
    """Count what `run_children` did."""
    counters.count("forked by C code", faults=CHILDREN, acknowledged=CHILDREN * CALLS)


def fork_with_the_providers_engine(database_url: str) -> None:
    """The connections of the parent stay open."""
    with Provider(database_url) as provider, psycopg.connect(database_url, autocommit=True) as server:
        provider.get_statistics()
        warm = set(server.execute(OURS).fetchall())
        run_children(provider)
        assert warm
        assert warm <= set(server.execute(OURS).fetchall())


def fork_with_an_application_engine(database_url: str) -> None:
    """Two providers share an engine by `from_engine`."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    first, second = Provider.from_engine(engine), Provider.from_engine(engine)
    run_children(first)
    check_answers(second, "second")
    engine.dispose()


@pytest.mark.parametrize("fork", [fork_with_the_providers_engine, fork_with_an_application_engine])
def test_forked_children_get_their_own_answers(
    database_url: str, in_processes: InProcesses, fork: Callable[[str], None]
) -> None:
    in_processes(fork, [(database_url,)])
    count_children()


def answer_threads_of_a_child(database_url: str) -> None:
    """The first calls of the child are made by concurrent threads, which share one new pool."""

    def work() -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: check_answers(provider, f"thread {number}"), range(8)))

    with Provider(database_url) as provider:
        provider.get_statistics()
        assert os.waitstatus_to_exitcode(os.waitpid(fork_by_c(work), 0)[1]) == 0


def enforce_call_timeout_in_a_child(database_url: str) -> None:
    """A call that waits for a row's lock."""

    def wait_for_a_lock() -> None:
        began = time.monotonic()
        with pytest.raises(PersistenceError, match="call_timeout"):
            provider.mark_event_processed("event-1")
        assert time.monotonic() - began < TIMEOUT + 1

    with Provider(database_url, call_timeout=TIMEOUT) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="event-1"))
        other.execute("SELECT FROM wfc.events FOR UPDATE")
        assert os.waitstatus_to_exitcode(os.waitpid(fork_by_c(wait_for_a_lock), 0)[1]) == 0
        other.rollback()


def ensure_store_exists_in_a_child(database_url: str) -> None:
    """`ensure_store_exists` uses connections of the pool, too."""

    def ensure() -> None:
        for _ in range(20):
            provider.ensure_store_exists()

    with Provider(database_url) as provider:
        provider.ensure_store_exists()
        child = fork_by_c(ensure)
        ensure()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "fork", [answer_threads_of_a_child, enforce_call_timeout_in_a_child, ensure_store_exists_in_a_child]
)
def test_forked_child_makes_calls(database_url: str, in_processes: InProcesses, fork: Callable[[str], None]) -> None:
    in_processes(fork, [(database_url,)])


UNUSED = """
import gc, json, os, resource, sys, time
from sqlalchemy import create_engine, make_url
from wfe_postgres import PostgresEventRepository, PostgresPersistenceProvider

url = sys.argv[1]
provider = PostgresPersistenceProvider(url)
engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))

def use(times):
    with engine.connect() as connection:
        for _ in range(times):
            provider.using(connection)
            PostgresEventRepository(connection)
    for _ in range(times // 100):
        PostgresPersistenceProvider(url)
        PostgresPersistenceProvider.from_engine(engine)
    gc.collect()

def seconds_of_a_fork():
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return time.perf_counter() - began

use(1000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, min(seconds_of_a_fork() for _ in range(5))
use(20_000)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, min(seconds_of_a_fork() for _ in range(5))
json.dump([before, after], sys.stdout)
"""


def test_memory_and_fork_time_do_not_grow_when_providers_are_discarded(database_url: str) -> None:
    """20,000 calls of `using()`, as many repositories and 400 providers."""
    done = subprocess.run([sys.executable, "-c", UNUSED, database_url], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after[0] - before[0] < 2048, "kilobytes"
    assert after[1] < 3 * before[1] + 0.01, "seconds"
