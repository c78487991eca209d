"""A write whose wait for a synchronous standby was cut short is committed on the primary alone: never called done.

The server has a standby configured that does not exist, so every commit waits until somebody ends the wait.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

import pytest
from sqlalchemy import create_engine, make_url

from tests.faults.conftest import TEMPLATE
from tests.faults.kit import counters
from tests.faults.kit.ambiguous import until_commits_wait
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.protocol.calls import ALL, Call
from tests.protocol.test_durable import WRITES
from tests.provider.databases import migrated_database
from wfe_postgres import OutcomeUnknownError, PostgresPersistenceProvider, WfeError
from wfe_postgres.testing.conformance.support import at, event

Provider = PostgresPersistenceProvider

TIMEOUT = 2.0
SLACK = 1.0
CALLS = runs(
    [
        "create_new_workflow",
        "persist_workflow of 10, 1 changed",
        "persist_workflow, unconditional",
        "create_event",
        "set_subscription_token, open",
        "schedule_command",
        "process_commands of 3",
        "delete_workflow",
    ],
    sorted(WRITES),
)
AT_ONCE = 8

WAITING = (
    "SELECT count({}(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'wfe_postgres'"
)


@contextmanager
def left_alone(_: Cluster) -> Iterator[None]:
    """The call's own deadline ends the wait."""
    yield


@contextmanager
def each_wait_ended(function: str, cluster: Cluster) -> Iterator[None]:
    """An administrator ends each wait."""
    over = threading.Event()

    def end_all() -> None:
        while not over.is_set():
            cluster.sql(WAITING.format(function))
            time.sleep(0.05)

    ending = threading.Thread(target=end_all)
    ending.start()
    try:
        yield
    finally:
        over.set()
        ending.join()


HARMS: dict[str, Callable[[Cluster], AbstractContextManager[None]]] = {
    "deadline": left_alone,
    "pg_cancel_backend": partial(each_wait_ended, "pg_cancel_backend"),
    "pg_terminate_backend": partial(each_wait_ended, "pg_terminate_backend"),
}


@contextmanager
def no_standby(cluster: Cluster) -> Iterator[None]:
    """Commits wait for a standby that does not exist."""
    with cluster.setting(synchronous_standby_names="nosuch"):
        until_commits_wait(cluster)
        yield


def timed(call: Call) -> tuple[WfeError | None, float]:
    """What it raised, and how many seconds it took."""
    began = time.monotonic()
    try:
        call()
    except WfeError as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began


@pytest.mark.parametrize("harm", HARMS)
def test_a_write_that_no_standby_has_confirmed(cluster: Cluster, harm: str) -> None:
    """Its outcome is unknown, in time, whoever ended the wait and however often it was tried."""
    for start in range(0, len(CALLS), AT_ONCE):
        names = CALLS[start : start + AT_ONCE]
        with ExitStack() as stack:
            calls = [prepared(name, stack, cluster) for name in names]
            with no_standby(cluster), HARMS[harm](cluster), ThreadPoolExecutor(len(names)) as threads:
                outcomes = dict(zip(names, threads.map(timed, calls), strict=True))
        for name, (error, seconds) in outcomes.items():
            assert isinstance(error, OutcomeUnknownError), f"{name}: {error!r}"
            assert seconds < TIMEOUT + SLACK, name
        counters.count(f"a wait for a standby cut short: {harm}", faults=len(names), unknown=len(names), lost=0)


def prepared(name: str, stack: ExitStack, cluster: Cluster) -> Call:
    """The call on a database of its own."""
    url = stack.enter_context(migrated_database(cluster.url_of("postgres"), TEMPLATE))
    provider = stack.enter_context(Provider(url, call_timeout=TIMEOUT))
    return ALL[name].prepare(provider)


@pytest.mark.parametrize("harm", HARMS)
def test_the_commit_of_a_transaction(cluster: Cluster, database: str, harm: str) -> None:
    """An `OutcomeUnknownError`; the connection is not used again."""

    def write() -> None:
        with provider.transaction() as tx:
            tx.create_event(event(id="event-1"))

    with Provider(database, call_timeout=TIMEOUT) as provider:
        provider.get_statistics()
        with no_standby(cluster), HARMS[harm](cluster):
            error, seconds = timed(write)
        assert isinstance(error, OutcomeUnknownError)
        assert seconds < TIMEOUT + SLACK
        assert provider.get_runnable_events(at(0)) == ["event-1"]


@pytest.mark.parametrize("setting", ["client_min_messages = error", "lc_messages = 'C'"])
def test_what_the_role_wants_to_hear(cluster: Cluster, database: str, setting: str) -> None:
    """The warning is not silenced by a setting of the role or the database."""
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET {setting}")
    with Provider(database, call_timeout=TIMEOUT) as provider, no_standby(cluster):
        error, _ = timed(lambda: provider.create_event(event()))
    assert isinstance(error, OutcomeUnknownError)
    assert "standby" in str(error)


def test_on_an_engine_of_the_applications(cluster: Cluster, database: str) -> None:
    """Without a deadline of ours, an administrator's cancellation is noticed all the same, in `using()` too."""
    url = make_url(database).set(drivername="postgresql+psycopg")
    engine = create_engine(url, connect_args={"application_name": "wfe_postgres"})  # by which each wait is found
    provider = Provider.from_engine(engine, retry_budget=0)
    provider.get_statistics()
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        no_standby(cluster),
        each_wait_ended("pg_cancel_backend", cluster),
    ):
        for target in (provider, provider.using(connection)):
            error, _ = timed(partial(target.create_event, event()))
            assert isinstance(error, OutcomeUnknownError)
    engine.dispose()


def test_a_write_that_the_standby_confirms_later(cluster: Cluster, database: str) -> None:
    """The wait is cut short, the standby is given up by the administrator: the retry confirms, and the write is one."""
    with Provider(database, call_timeout=10 * TIMEOUT) as provider:
        provider.get_statistics()
        with ThreadPoolExecutor(1) as threads:
            with no_standby(cluster), each_wait_ended("pg_terminate_backend", cluster):
                writing = threads.submit(provider.create_event, event(id="event-1"))
                time.sleep(0.5)
                assert not writing.done()
            assert writing.result() == "event-1"
        assert provider.get_runnable_events(at(0)) == ["event-1"]
