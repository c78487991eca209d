"""A fork by C code, as uWSGI's: none of Python's hooks run, and the child works all the same."""

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

from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.form import runs
from tests.provider.databases import OURS
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at, event

Provider = PostgresPersistenceProvider

CHILDREN = runs(4, 8)
CALLS = runs(100, 4000)
TIMEOUT = 1.0


def forked_by_c(function: Callable[[], object]) -> int:
    """Run the function in a child that C code has forked; the child's process id."""
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
    """Make calls whose answers can be told from everybody else's."""
    for turn in range(CALLS):
        id = provider.create_event(event(event_name=name, event_data=[name, turn]))
        assert provider.get_event(id).event_data == [name, turn]
    assert len(provider.get_events(name, "order-1", at(0))) == CALLS


def run_children(provider: Provider) -> None:
    """Children and the parent call at the same time; every answer is the caller's own."""
    check_answers(provider, "before")
    children = [forked_by_c(partial(check_answers, provider, f"child {number}")) for number in range(CHILDREN)]
    check_answers(provider, "parent")
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * CHILDREN
    check_answers(provider, "after")
    counters.count("forked by C code", faults=CHILDREN, acknowledged=CHILDREN * CALLS)


def test_children_of_an_own_engine(database_url: str, sql: Sql) -> None:
    """The parent's connections stay open and its own."""
    with Provider(database_url) as provider:
        provider.get_statistics()
        warm = {pid for (pid,) in sql(OURS)}
        run_children(provider)
        assert warm <= {pid for (pid,) in sql(OURS)}


def test_children_of_an_applications_engine(database_url: str) -> None:
    """The same for `from_engine`, and for two providers on one engine."""
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    first, second = Provider.from_engine(engine), Provider.from_engine(engine)
    run_children(first)
    check_answers(second, "second")
    engine.dispose()


def test_threads_of_a_child(database_url: str) -> None:
    """The first calls of many threads in the child: they share one new pool."""

    def work() -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: check_answers(provider, f"thread {number}"), range(8)))

    with Provider(database_url) as provider:
        provider.get_statistics()
        assert os.waitstatus_to_exitcode(os.waitpid(forked_by_c(work), 0)[1]) == 0


def test_deadlines_hold_in_the_child(database_url: str) -> None:
    """Whatever thread kept them in the parent is not there."""

    def wait_for_a_lock() -> None:
        began = time.monotonic()
        with pytest.raises(PersistenceError, match="call_timeout"):
            provider.mark_event_processed("event-1")
        assert time.monotonic() - began < TIMEOUT + 1

    with Provider(database_url, call_timeout=TIMEOUT) as provider, psycopg.connect(database_url) as other:
        provider.create_event(event(id="event-1"))
        other.execute("SELECT FROM wfc.events FOR UPDATE")
        assert os.waitstatus_to_exitcode(os.waitpid(forked_by_c(wait_for_a_lock), 0)[1]) == 0
        other.rollback()


def test_ensure_store_exists_in_the_child(database_url: str) -> None:
    """It takes its connections from the pool, too."""

    def ensure() -> None:
        for _ in range(20):
            provider.ensure_store_exists()

    with Provider(database_url) as provider:
        provider.ensure_store_exists()
        child = forked_by_c(ensure)
        ensure()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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


def test_nothing_is_left_of_what_was_not_kept(database_url: str) -> None:
    """20,000 `using()`, as many repositories and 400 providers cost no memory, and a later fork no time."""
    done = subprocess.run([sys.executable, "-c", UNUSED, database_url], capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout)
    assert after[0] - before[0] < 2048, "kilobytes"
    assert after[1] < 3 * before[1] + 0.01, "seconds"
