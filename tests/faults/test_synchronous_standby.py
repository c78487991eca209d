"""Writes whose wait for a synchronous standby is interrupted: they are committed on the primary only.

Such a write is not acknowledged. The server is configured with a standby that does not exist, so every commit waits
until the wait is interrupted.
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
CONCURRENT_CALLS = 8

WAITING = (
    "SELECT count({}(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'wfe_postgres'"
)


@contextmanager
def no_interruption(_: Cluster) -> Iterator[None]:
    """The timeout of the call ends the wait."""
    yield


@contextmanager
def waits_interrupted(function: str, cluster: Cluster) -> Iterator[None]:
    """Call the function on each backend that waits, as an administrator would."""
    stop = threading.Event()

    def interrupt_all() -> None:
        while not stop.is_set():
            cluster.sql(WAITING.format(function))
            time.sleep(0.05)

    thread = threading.Thread(target=interrupt_all)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


INTERRUPTIONS: dict[str, Callable[[Cluster], AbstractContextManager[None]]] = {
    "call_timeout": no_interruption,
    "pg_cancel_backend": partial(waits_interrupted, "pg_cancel_backend"),
    "pg_terminate_backend": partial(waits_interrupted, "pg_terminate_backend"),
}


@contextmanager
def no_standby(cluster: Cluster) -> Iterator[None]:
    """Commits wait for a standby that does not exist."""
    with cluster.setting(synchronous_standby_names="nosuch"):
        until_commits_wait(cluster)
        yield


def timed(call: Call) -> tuple[WfeError | None, float]:
    """Return the error of the call, if any, and its duration in seconds."""
    began = time.monotonic()
    try:
        call()
    except WfeError as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_write_raises_outcome_unknown_when_no_standby_confirms_it(cluster: Cluster, interruption: str) -> None:
    """The error is raised within the timeout, after any number of retries."""
    for start in range(0, len(CALLS), CONCURRENT_CALLS):
        names = CALLS[start : start + CONCURRENT_CALLS]
        with ExitStack() as stack:
            calls = [prepare(name, stack, cluster) for name in names]
            with no_standby(cluster), INTERRUPTIONS[interruption](cluster), ThreadPoolExecutor(len(names)) as threads:
                outcomes = dict(zip(names, threads.map(timed, calls), strict=True))
        for name, (error, seconds) in outcomes.items():
            assert isinstance(error, OutcomeUnknownError), f"{name}: {error!r}"
            assert seconds < TIMEOUT + SLACK, name
        counters.count(f"wait for a standby interrupted: {interruption}", faults=len(names), unknown=len(names), lost=0)


def prepare(name: str, stack: ExitStack, cluster: Cluster) -> Call:
    """Return the call, prepared on a new database."""
    url = stack.enter_context(migrated_database(cluster.url_of("postgres"), TEMPLATE))
    provider = stack.enter_context(Provider(url, call_timeout=TIMEOUT))
    return ALL[name].prepare(provider)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_transaction_raises_outcome_unknown_when_no_standby_confirms_its_commit(
    cluster: Cluster, database: str, interruption: str
) -> None:
    """The connection is not used again."""

    def write() -> None:
        with provider.transaction() as tx:
            tx.create_event(event(id="event-1"))

    with Provider(database, call_timeout=TIMEOUT) as provider:
        provider.get_statistics()
        with no_standby(cluster), INTERRUPTIONS[interruption](cluster):
            error, seconds = timed(write)
        assert isinstance(error, OutcomeUnknownError)
        assert seconds < TIMEOUT + SLACK
        assert provider.get_runnable_events(at(0)) == ["event-1"]


@pytest.mark.parametrize("setting", ["client_min_messages = error", "lc_messages = 'C'"])
def test_unconfirmed_write_is_detected_when_message_settings_are_changed(
    cluster: Cluster, database: str, setting: str
) -> None:
    """The warning of the server is detected whatever `client_min_messages` and `lc_messages` are."""
    cluster.sql(f"ALTER DATABASE {make_url(database).database} SET {setting}")
    with Provider(database, call_timeout=TIMEOUT) as provider, no_standby(cluster):
        error, _ = timed(lambda: provider.create_event(event()))
    assert isinstance(error, OutcomeUnknownError)
    assert "standby" in str(error)


def test_cancelled_wait_is_detected_with_an_application_engine(cluster: Cluster, database: str) -> None:
    """Without a call timeout, a cancellation by an administrator is detected, also with `using()`."""
    url = make_url(database).set(drivername="postgresql+psycopg")
    engine = create_engine(url, connect_args={"application_name": "wfe_postgres"})  # waits are found by this name
    provider = Provider.from_engine(engine, retry_budget=0)
    provider.get_statistics()
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        no_standby(cluster),
        waits_interrupted("pg_cancel_backend", cluster),
    ):
        for target in (provider, provider.using(connection)):
            error, _ = timed(partial(target.create_event, event()))
            assert isinstance(error, OutcomeUnknownError)
    engine.dispose()


def test_write_takes_effect_once_when_the_standby_is_removed_before_the_retry(cluster: Cluster, database: str) -> None:
    """The wait is interrupted, the standby is removed from the settings, and the retry confirms the write."""
    with Provider(database, call_timeout=10 * TIMEOUT) as provider:
        provider.get_statistics()
        with ThreadPoolExecutor(1) as threads:
            with no_standby(cluster), waits_interrupted("pg_terminate_backend", cluster):
                writing = threads.submit(provider.create_event, event(id="event-1"))
                time.sleep(0.5)
                assert not writing.done()
            assert writing.result() == "event-1"
        assert provider.get_runnable_events(at(0)) == ["event-1"]
