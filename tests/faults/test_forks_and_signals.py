"""A program that forks, or is interrupted, in the middle of a call."""

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
from wfe_postgres.connections.checkout import driver_connection
from wfe_postgres.testing.conformance.support import at, created, event, pointer, subscription, workflow

CHILDREN = 8
THREADS = 4
OURS_WITH_PID = f"{OURS} AND pid = %s"

REST = """
    CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';
    CREATE TRIGGER rest AFTER UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION rest()
"""


class TimeLimitExceeded(Exception):  # noqa: N818
    """What some task queues' signal handlers raise in a job that takes too long."""


def check_calls(provider: PostgresPersistenceProvider, name: str, turns: int) -> int:
    """Make calls whose answers can be told from everybody else's; how many were right."""
    for turn in range(turns):
        id = provider.create_event(event(event_name=name, event_data=[name, turn]))
        assert provider.get_event(id).event_data == [name, turn]
    return len(provider.get_events(name, "order-1", at(0)))


@contextmanager
def calling(provider: PostgresPersistenceProvider, name: str) -> Iterator[Callable[[], int]]:
    """Threads of this process that are always in some call; gives how many calls they have made so far."""
    over = threading.Event()
    counts = [0] * THREADS
    failures: list[BaseException] = []

    def call(number: int) -> None:
        try:
            while not over.is_set():
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
        over.set()
        for thread in threads:
            thread.join()
        assert failures == []


def test_children_forked_in_the_middle_of_calls(
    provider: PostgresPersistenceProvider, in_processes: InProcesses
) -> None:
    """Whatever the parent's threads held at that moment: each child has connections of its own, and its own answers."""
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
    """So many seconds into the block its thread, the main one, gets a signal whose handler raises the exception."""
    armed = True

    def strike(*_: object) -> None:
        if armed:
            raise by

    # Sent to the thread, not to the process: the system call that it waits in is to be interrupted, too.
    main = threading.main_thread().ident or 0
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, strike)
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
    """The process id, on the server, of the connection that the pool gives."""
    with provider.engine.connect() as connection:
        return driver_connection(connection).info.backend_pid


def assert_that_nothing_is_out(provider: PostgresPersistenceProvider) -> None:
    """The pool can lend all its connections, and each as it was."""
    pool = provider.engine.pool
    assert isinstance(pool, QueuePool)
    if pool.checkedout():
        gc.collect()  # an exception and its frames can keep each other alive, and the connection with them
    assert pool.checkedout() == 0
    with provider.engine.connect() as connection:
        assert not driver_connection(connection).autocommit


def save_with_interruptions(url: str, by: type[BaseException], times: int) -> list[tuple[bool, bool]]:
    """Save until so many calls were interrupted; for each call: was it, and did it take place?

    The signal comes within twice the time that the last call took which none interrupted.
    """
    sys.unraisablehook = lambda _: None  # pytest's keeps what is interrupted where Python ignores it, with its frames
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
            assert_that_nothing_is_out(provider)
            if backend_of(provider) != backend:  # it was given up, and ends when its statement has
                wait_until(lambda: gc.collect() >= 0 and not server.execute(OURS_WITH_PID, [backend]).fetchall())  # noqa: B023
            saved = provider.get_workflow_instance(saved.id)
            took_place = saved.data["turn"] == turn
            assert len(saved.execution_pointers) == before + took_place
            subscribed = [it.id for it in provider.get_subscriptions("paid", "order-1", at(0))]
            assert (f"of {turn}" in subscribed) == took_place
            outcomes.append((interrupted, took_place))
    return outcomes


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize("by", [KeyboardInterrupt, TimeLimitExceeded])
def test_a_call_interrupted_at_any_moment(
    database_url: str, sql: Sql, in_processes: InProcesses, by: type[BaseException], slowly: bool
) -> None:
    """It takes place or it does not, and the next call has a connection; `slowly`: the server takes its time."""
    if slowly:
        sql(REST)
    arguments = [(database_url, by, runs(40, 250))]
    [outcomes] = in_processes(save_with_interruptions, arguments, method="fork", timeout=110)
    assert all(took_place for interrupted, took_place in outcomes if not interrupted)
    assert not all(interrupted for interrupted, _ in outcomes)


class AtFunction:
    """Raises when so many functions have been called, as a signal handler can, and once only; `reached` counts them.

    Not where Python would ignore it: in a callback of the garbage collector's.
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
def garbage_when_asked() -> Iterator[None]:
    """The collector runs only where the test says so, and then over what the test has made alone."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("garbage_when_asked")
@pytest.mark.filterwarnings("ignore:.* was deleted while still open:ResourceWarning")  # that closes it
@pytest.mark.parametrize("call", ["save", "load", "transaction"])
def test_a_call_interrupted_at_every_function(provider: PostgresPersistenceProvider, call: str) -> None:
    """A signal handler's exception comes out, and every connection comes back as it was."""
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
        with suppress(TimeLimitExceeded, AssertionError):  # SQLAlchemy asserts something of what was left half done
            try:
                sys.setprofile(interruption)
                calls[call]()
            finally:
                sys.setprofile(None)
        gc.collect()
        assert_that_nothing_is_out(provider)
        saved = provider.get_workflow_instance(saved.id)
        if interruption.reached < number:
            break
    assert number > 50


def test_a_failure_is_no_interruption(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool that it came from stays, with its other connections."""

    def fail(_: object, value: object) -> None:
        raise psycopg.OperationalError("canary")

    with PostgresPersistenceProvider(database_url, retry_budget=0) as provider:
        saved, pool = created(provider, workflow()), provider.engine.pool
        with monkeypatch.context() as broken:
            broken.setattr(psycopg.Connection, "autocommit", property(lambda _: False, fail))
            with suppress(PersistenceError):  # `pytest.raises` would keep its frames
                provider.get_workflow_instance(saved.id)
                pytest.fail("it should have failed")
        gc.collect()
        assert provider.get_workflow_instance(saved.id) == saved
        assert provider.engine.pool is pool
        assert_that_nothing_is_out(provider)
