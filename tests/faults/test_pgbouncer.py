"""All works through PgBouncer in transaction mode as it does without, and nothing is left in its connections."""

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy.pool import QueuePool

from tests.concurrency.support import run_in_threads
from tests.concurrency.test_lost_updates import check_counted, count_up
from tests.conftest import InProcesses, Sql
from tests.faults.kit.bouncer import PgBouncer, left_behind, pgbouncer
from tests.faults.kit.form import require_tool, runs
from tests.migrations.stores import differences
from tests.provider.databases import migrated_database, wait_until
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance import Configure, PersistenceConformance
from wfe_postgres.testing.conformance.support import at, event, from_now, subscription, workflow

EMPTY = "; ".join(f"DELETE FROM {table.fullname}" for table in reversed(Base.metadata.sorted_tables))
PROCESSES = 6

# What the documentation asks of whoever has a PgBouncer: a prepared statement lives in one server connection.
pooled: Callable[..., PostgresPersistenceProvider] = partial(
    PostgresPersistenceProvider, connect_args={"prepare_threshold": None}
)


@pytest.fixture(scope="module")
def bouncer(server: str) -> Iterator[PgBouncer]:
    """One for all the tests, which have databases of their own."""
    require_tool("pgbouncer")
    with pgbouncer(server) as bouncer:
        yield bouncer


@pytest.fixture
def url(bouncer: PgBouncer, database_url: str) -> Iterator[str]:
    """This test's database by way of PgBouncer. When the test ends, the next client finds nothing of it."""
    yield bouncer.url(database_url)
    assert left_behind(bouncer, database_url) == []


@pytest.fixture(scope="module")
def store(server: str, template: str, bouncer: PgBouncer) -> Iterator[PostgresPersistenceProvider]:
    """A provider on a database that the tests of the suite share, one after the other."""
    with migrated_database(server, template) as direct:
        with pooled(bouncer.url(direct)) as provider:
            provider.get_statistics()  # its thread is there before the first test, which leaves none of its own
            yield provider
        assert left_behind(bouncer, direct) == []


class TestThroughPgBouncer(PersistenceConformance):
    """The whole suite."""

    @pytest.fixture
    def provider(self, store: PostgresPersistenceProvider) -> Iterator[PersistenceProvider]:
        """The store, emptied."""
        with store.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)
        yield store
        assert isinstance(store.engine.pool, QueuePool)
        assert store.engine.pool.checkedout() == 0

    @pytest.fixture
    def configure(self, store: PostgresPersistenceProvider) -> Configure:
        """With other settings on the same engine."""
        return partial(PostgresPersistenceProvider.from_engine, store.engine)


def test_what_is_left_behind_is_found(bouncer: PgBouncer, database_url: str) -> None:
    """What these tests look for at their end: a client has set, prepared and locked something for its session."""
    with psycopg.connect(bouncer.url(database_url), autocommit=True) as careless:
        careless.execute("SET statement_timeout = '7min'")
        careless.execute("SELECT pg_advisory_lock(1)", prepare=True)
        found = ["statement_timeout = 420000", "SELECT pg_advisory_lock(1)", "an advisory lock"]
        assert left_behind(bouncer, database_url) == found
        careless.execute("SELECT pg_advisory_unlock(1)")


def test_whoever_sends_options_is_refused(bouncer: PgBouncer, database_url: str) -> None:
    """So the provider, which gets in, sends none."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(bouncer.url(database_url), options="-c search_path=wfc")


def count(url: str, id: str, name: str, turns: int) -> int:
    """One of the processes that count on."""
    with pooled(url) as provider:
        return count_up(provider, id, name, turns)


def test_no_update_is_lost(url: str, in_processes: InProcesses) -> None:
    turns = runs(20, 60)
    with pooled(url) as provider:
        counter = workflow(data={"counter": 0})
        counter.execution_pointers = []
        id = provider.create_new_workflow(counter)
        arguments = [(url, id, str(name), turns) for name in range(PROCESSES)]
        assert sum(in_processes(count, arguments, method="fork", timeout=110)) > 0
        check_counted(provider, id, PROCESSES, turns)


def take_tokens(url: str, name: str, ids: list[str]) -> list[str]:
    """Try each of the subscriptions once; which were free."""
    with pooled(url) as provider:
        return [id for id in ids if provider.set_subscription_token(id, name, name, from_now(3600))]


def test_a_token_has_one_holder(url: str, sql: Sql, in_processes: InProcesses) -> None:
    with pooled(url) as provider:
        ids = [provider.create_event_subscription(subscription()) for _ in range(runs(60, 1000))]
    arguments = [(url, str(number), ids) for number in range(PROCESSES)]
    shares = in_processes(take_tokens, arguments, method="fork")
    taken = {(id, str(number)) for number, share in enumerate(shares) for id in share}
    assert len(taken) == len(ids)
    assert taken == set(sql("SELECT id, external_token FROM wfc.event_subscriptions"))


def schedule(url: str, count: int, done: Event) -> list[tuple[str, int]]:
    """Schedule so many commands, some of them a second time."""
    given = [(str(it), it) for it in range(count)] + [(str(it), count + it) for it in range(0, count, 7)]
    with pooled(url) as provider:
        for data, due in given:
            provider.schedule_command(ScheduledCommand.process_event(data, due))
    done.set()
    return given


def handle(url: str, _: int, done: Event) -> list[tuple[str, int]]:
    """Handle what is there until no more comes."""
    handled: list[tuple[str, int]] = []
    with pooled(url) as provider:
        last = False
        while provider.process_commands(at(0), lambda it: handled.append((it.data, it.execute_time))) or not last:
            last = done.is_set()
    return handled


def take_part(part: Callable[..., list[tuple[str, int]]], url: str, count: int, done: Event) -> list[tuple[str, int]]:
    """A process of the race."""
    return part(url, count, done)


def test_a_command_is_handled_once(url: str, sql: Sql, in_processes: InProcesses) -> None:
    """By one of two hosts, each time that it was scheduled, or once for two times of which the later came in time."""
    count = runs(200, 3000)
    done = multiprocessing.get_context("fork").Event()
    arguments = [(part, url, count, done) for part in (schedule, handle, handle)]
    given, *shares = in_processes(take_part, arguments, method="fork", timeout=110)
    handled = Counter(it for share in shares for it in share)
    assert set(handled.values()) == {1}
    assert set(dict(given).items()) <= handled.keys() <= set(given)
    assert sql("SELECT * FROM wfc.scheduled_commands") == []


def boot(url: str) -> None:
    """A host's first call."""
    with pooled(url) as provider:
        provider.ensure_store_exists()


def test_hosts_boot_at_once(bouncer: PgBouncer, empty_database_url: str, sql: Sql, in_processes: InProcesses) -> None:
    for _ in range(runs(1, 10)):
        sql("DROP SCHEMA IF EXISTS wfc CASCADE")
        in_processes(boot, [(bouncer.url(empty_database_url),)] * 8, method="fork")
        assert differences(empty_database_url) == []
        assert left_behind(bouncer, empty_database_url) == []


def test_a_crash_of_pgbouncer_heals(bouncer: PgBouncer, url: str, sql: Sql) -> None:
    """Every call in flight is tried again or found out, and the provider stays the same object."""
    stored: list[str] = []
    over = threading.Event()

    def work(_: int) -> None:
        while not over.is_set():
            stored.append(provider.create_event(event()))

    def disturb() -> None:
        try:
            for _ in range(runs(3, 30)):
                so_far = len(stored)
                wait_until(lambda: len(stored) > so_far + 20)  # noqa: B023
                bouncer.kill()
                bouncer.start()
        finally:
            over.set()

    parts: list[Callable[[], Any]] = [disturb, *[partial(work, number) for number in range(4)]]
    with pooled(url) as provider:
        run_in_threads(len(parts), lambda number: parts[number]())
        assert provider.create_event(event(id="afterwards")) == "afterwards"
    found = Counter(id for (id,) in sql("SELECT id FROM wfc.events"))
    assert found == Counter([*stored, "afterwards"])
