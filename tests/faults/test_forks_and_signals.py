"""Forks and signal handler exceptions during a call."""

import gc
import itertools
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psycopg
import pytest
from sqlalchemy.pool import QueuePool

from tests.conftest import InProcesses, Sql
from tests.faults.kit.form import runs
from tests.provider.databases import OURS, wait_until
from wfe_postgres import PersistenceError, PersistenceProvider, PostgresPersistenceProvider
from wfe_postgres.connections.deadlines import BoundedConnection
from wfe_postgres.connections.pools import driver_connection
from wfe_postgres.testing.conformance.support import at, created, event, pointer, subscription, workflow

CHILDREN = 8
THREADS = 4
OURS_WITH_PID = f"{OURS} AND pid = %s"

SLOW_UPDATES = """
    CREATE FUNCTION slow_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';
    CREATE TRIGGER slow_update AFTER UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION slow_update()
"""


class TimeLimitExceeded(Exception):  # noqa: N818
    """An exception as raised by the signal handlers of task queues in a job that exceeds its time limit."""


def check_calls(provider: PostgresPersistenceProvider, name: str, turns: int) -> int:
    """Make calls with distinguishable answers, check them and return the number of stored events."""
    for turn in range(turns):
        id = provider.create_event(event(event_name=name, event_data=[name, turn]))
        assert provider.get_event(id).event_data == [name, turn]
    return len(provider.get_events(name, "order-1", at(0)))


@contextmanager
def calling(provider: PostgresPersistenceProvider, name: str) -> Iterator[Callable[[], int]]:
    """Run threads that make calls continuously; yields a function that returns the number of calls."""
    stop = threading.Event()
    counts = [0] * THREADS
    failures: list[BaseException] = []

    def call(number: int) -> None:
        try:
            while not stop.is_set():
                counts[number] += 1
                assert check_calls(provider, f"{name} {number} {counts[number]}", 1) == 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: sum(counts)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []


def test_forked_children_get_their_own_answers_when_parent_threads_are_in_calls(
    provider: PostgresPersistenceProvider, in_processes: InProcesses
) -> None:
    """Each child opens its own connections."""
    turns = runs(50, 200)
    for round in range(runs(2, 20)):
        with calling(provider, f"parent {round}") as calls:
            before = calls()
            arguments = [(provider, f"child {round} {number}", turns) for number in range(CHILDREN)]
            assert in_processes(check_calls, arguments, method="fork") == [turns] * CHILDREN
            assert calls() > before
    assert check_calls(provider, "afterwards", turns) == turns


@contextmanager
def interrupted_after(seconds: float, by: type[BaseException]) -> Iterator[None]:
    """Send a signal to the main thread after `seconds`; its handler raises the exception `by`."""
    armed = True

    def raise_exception(*_: object) -> None:
        if armed:
            raise by

    # Sent to the thread instead of the process, so that a blocking system call of the thread is interrupted.
    main = threading.main_thread().ident or 0
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, raise_exception)
    timer.start()
    try:
        yield
        armed = False
    except by:
        armed = False
        raise
    finally:
        timer.join()


def backend_of(provider: PostgresPersistenceProvider) -> int:
    """Return the backend process id of the connection that the pool returns."""
    with provider.engine.connect() as connection:
        return driver_connection(connection).info.backend_pid


def assert_no_connection_is_checked_out(provider: PostgresPersistenceProvider) -> None:
    """Check that all connections are back in the pool and in their original state."""
    pool = provider.engine.pool
    assert isinstance(pool, QueuePool)
    if pool.checkedout():
        gc.collect()  # a reference cycle of exception and frames can keep the connection checked out
    assert pool.checkedout() == 0
    with provider.engine.connect() as connection:
        assert not driver_connection(connection).autocommit


def save_with_interruptions(url: str, by: type[BaseException], times: int) -> list[tuple[bool, bool]]:
    """Save until `times` calls were interrupted; return for each call whether it was interrupted and took effect.

    The signal is sent within twice the duration of the last uninterrupted call, and later after each interrupted one,
    so that some calls end on a busy machine, too.
    """
    sys.unraisablehook = lambda _: None  # the hook of pytest keeps ignored exceptions and their frames alive
    chance = random.Random(1)
    outcomes: list[tuple[bool, bool]] = []
    uninterrupted = 0.03
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:
        saved = created(provider, workflow(data={"turn": -1}))
        while sum(interrupted for interrupted, _ in outcomes) < times:
            turn, before = len(outcomes), len(saved.execution_pointers)
            saved.data["turn"] = turn
            saved.execution_pointers.append(pointer(f"of {turn}"))
            backend = backend_of(provider)
            interrupted = False
            try:
                with interrupted_after(chance.uniform(0, 2 * uninterrupted), by):
                    begin = time.monotonic()
                    provider.persist_workflow_with_subscriptions(saved, [subscription(id=f"of {turn}")])
                    uninterrupted = time.monotonic() - begin
            except by:
                interrupted = True
                uninterrupted *= 1.05
            assert_no_connection_is_checked_out(provider)
            if backend_of(provider) != backend:  # the connection was invalidated; its backend ends after the statement
                wait_until(lambda: gc.collect() >= 0 and not server.execute(OURS_WITH_PID, [backend]).fetchall())  # noqa: B023
            saved = provider.get_workflow_instance(saved.id)
            took_effect = saved.data["turn"] == turn
            assert len(saved.execution_pointers) == before + took_effect
            subscribed = [it.id for it in provider.get_subscriptions("paid", "order-1", at(0))]
            assert (f"of {turn}" in subscribed) == took_effect
            outcomes.append((interrupted, took_effect))
    return outcomes


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("by", [KeyboardInterrupt, TimeLimitExceeded])
def test_save_is_atomic_when_interrupted_at_a_random_time(
    database_url: str, sql: Sql, in_processes: InProcesses, by: type[BaseException], slow: bool
) -> None:
    """The next call gets a connection. `slow`: the server delays each save."""
    if slow:
        sql(SLOW_UPDATES)
    arguments = [(database_url, by, runs(40, 250))]
    [outcomes] = in_processes(save_with_interruptions, arguments, method="fork", timeout=110)
    assert all(took_effect for interrupted, took_effect in outcomes if not interrupted)
    assert not all(interrupted for interrupted, _ in outcomes)


class AtFunction:
    """A profile function that raises once, at the function call `number`; `reached` is the number of calls.

    It does not raise in callbacks of the garbage collector, where Python ignores exceptions.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.reached = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """See `sys.setprofile`."""
        if event == "call" and frame.f_code.co_name not in ("__del__", "_collection_gced"):
            self.reached += 1
            if self.reached == self._number:
                sys.setprofile(None)
                raise TimeLimitExceeded


@pytest.fixture
def manual_garbage_collection() -> Iterator[None]:
    """Disable automatic garbage collection, and exclude existing objects from explicit collections."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("manual_garbage_collection")
@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")  # psycopg closes the connection
@pytest.mark.parametrize("call", ["save", "load", "transaction"])
def test_connections_return_to_the_pool_when_a_call_is_interrupted_at_any_function(
    provider: PostgresPersistenceProvider, call: str
) -> None:
    """The exception of the signal handler propagates, and connections keep their state."""
    saved = created(provider, workflow())

    def save(provider: PersistenceProvider = provider) -> None:
        saved.data["turn"] = number
        provider.persist_workflow(saved)

    def transaction() -> None:
        with provider.transaction() as tx:
            save(tx)

    calls: dict[str, Callable[[], object]] = {
        "save": save,
        "load": lambda: provider.get_workflow_instance(saved.id),
        "transaction": transaction,
    }
    for number in itertools.count(1, runs(7, 1)):
        interruption = AtFunction(number)
        with suppress(TimeLimitExceeded, AssertionError):  # interrupted SQLAlchemy code can fail its own assertions
            try:
                sys.setprofile(interruption)
                calls[call]()
            finally:
                sys.setprofile(None)
        gc.collect()
        assert_no_connection_is_checked_out(provider)
        saved = provider.get_workflow_instance(saved.id)
        if interruption.reached < number:
            break
    assert number > 50


def test_pool_is_kept_when_resetting_a_connection_fails(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary error does not replace the pool, as an interruption does."""

    def fail(_: object, value: object) -> None:
        raise psycopg.OperationalError("canary")

    with PostgresPersistenceProvider(database_url, retry_budget=0) as provider:
        saved, pool = created(provider, workflow()), provider.engine.pool
        with monkeypatch.context() as patched:
            patched.setattr(BoundedConnection, "set_autocommit", fail)
            with suppress(PersistenceError):  # `pytest.raises` would keep its frames
                provider.get_workflow_instance(saved.id)
                pytest.fail("the call did not raise")
        gc.collect()
        assert provider.get_workflow_instance(saved.id) == saved
        assert provider.engine.pool is pool
        assert_no_connection_is_checked_out(provider)
