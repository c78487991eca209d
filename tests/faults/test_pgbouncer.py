"""The provider behind PgBouncer in transaction mode: it works, and leaves no session state behind."""

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url
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

# As documented for PgBouncer: no prepared statements, since they belong to one server connection.
pooled: Callable[..., PostgresPersistenceProvider] = partial(
    PostgresPersistenceProvider, connect_args={"prepare_threshold": None}
)


@pytest.fixture(scope="module")
def bouncer(server: str) -> Iterator[PgBouncer]:
    """The PgBouncer of the module; each test has its own database."""
    require_tool("pgbouncer")
    with pgbouncer(server) as bouncer:
        yield bouncer


@pytest.fixture
def url(bouncer: PgBouncer, database_url: str) -> Iterator[str]:
    """The URL of the test's database through PgBouncer; checks that the test leaves no session state."""
    yield bouncer.url(database_url)
    assert left_behind(bouncer, database_url) == []


@pytest.fixture(scope="module")
def store(server: str, template: str, bouncer: PgBouncer) -> Iterator[PostgresPersistenceProvider]:
    """A provider whose database is shared by the tests of the conformance suite."""
    with migrated_database(server, template) as direct:
        with pooled(bouncer.url(direct)) as provider:
            provider.get_statistics()  # starts the thread of the provider before the check for remaining threads
            yield provider
        assert left_behind(bouncer, direct) == []


class TestThroughPgBouncer(PersistenceConformance):
    """The conformance suite through PgBouncer."""

    @pytest.fixture
    def provider(self, store: PostgresPersistenceProvider) -> Iterator[PersistenceProvider]:
        """The shared provider, with empty tables."""
        with store.engine.begin() as connection:
            connection.exec_driver_sql(EMPTY)
        yield store
        assert isinstance(store.engine.pool, QueuePool)
        assert store.engine.pool.checkedout() == 0

    @pytest.fixture
    def configure(self, store: PostgresPersistenceProvider) -> Configure:
        """Create a provider with other settings on the same engine."""
        return partial(PostgresPersistenceProvider.from_engine, store.engine)


def test_left_behind_finds_settings_statements_and_locks(bouncer: PgBouncer, database_url: str) -> None:
    """`left_behind` finds a setting, a prepared statement and a lock that a client has left in its session."""
    with psycopg.connect(bouncer.url(database_url), autocommit=True) as client:
        client.execute("SET statement_timeout = '7min'")
        client.execute("SELECT pg_advisory_lock(1)", prepare=True)
        found = ["statement_timeout = 420000", "SELECT pg_advisory_lock(1)", "an advisory lock"]
        assert left_behind(bouncer, database_url) == found
        client.execute("SELECT pg_advisory_unlock(1)")


def test_pgbouncer_rejects_connections_with_startup_options(bouncer: PgBouncer, database_url: str) -> None:
    """Therefore the provider, which can connect, sends no startup options."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(bouncer.url(database_url), options="-c search_path=wfc")


def count(url: str, id: str, name: str, turns: int) -> int:
    """Increment the counter `turns` times in a process."""
    with pooled(url) as provider:
        return count_up(provider, id, name, turns)


def test_concurrent_saves_lose_no_update(url: str, in_processes: InProcesses) -> None:
    turns = runs(20, 60)
    with pooled(url) as provider:
        counter = workflow(data={"counter": 0})
        counter.execution_pointers = []
        id = provider.create_new_workflow(counter)
        arguments = [(url, id, str(name), turns) for name in range(PROCESSES)]
        assert sum(in_processes(count, arguments, method="fork", timeout=110)) > 0
        check_counted(provider, id, PROCESSES, turns)


def set_tokens(url: str, name: str, ids: list[str]) -> list[str]:
    """Try to set the token of each subscription once; return the ids that succeeded."""
    with pooled(url) as provider:
        return [id for id in ids if provider.set_subscription_token(id, name, name, from_now(3600))]


def test_concurrent_token_requests_have_one_holder(url: str, sql: Sql, in_processes: InProcesses) -> None:
    with pooled(url) as provider:
        ids = [provider.create_event_subscription(subscription()) for _ in range(runs(60, 1000))]
    arguments = [(url, str(number), ids) for number in range(PROCESSES)]
    shares = in_processes(set_tokens, arguments, method="fork")
    taken = {(id, str(number)) for number, share in enumerate(shares) for id in share}
    assert len(taken) == len(ids)
    assert taken == set(sql("SELECT id, external_token FROM wfc.event_subscriptions"))


def schedule(url: str, count: int, done: Event) -> list[tuple[str, int]]:
    """Schedule `count` commands, and every seventh a second time; return all pairs of data and due time."""
    scheduled = [(str(it), it) for it in range(count)] + [(str(it), count + it) for it in range(0, count, 7)]
    with pooled(url) as provider:
        for data, due in scheduled:
            provider.schedule_command(ScheduledCommand.process_event(data, due))
    done.set()
    return scheduled


def handle(url: str, _: int, done: Event) -> list[tuple[str, int]]:
    """Process commands until scheduling has ended and no command is left."""
    handled: list[tuple[str, int]] = []
    with pooled(url) as provider:
        last = False
        while provider.process_commands(at(0), lambda it: handled.append((it.data, it.execute_time))) or not last:
            last = done.is_set()
    return handled


def run_part(part: Callable[..., list[tuple[str, int]]], url: str, count: int, done: Event) -> list[tuple[str, int]]:
    """Run one part of the test in a process."""
    return part(url, count, done)


def test_each_command_is_handled_once_by_two_hosts(url: str, sql: Sql, in_processes: InProcesses) -> None:
    """A command that is scheduled again before it is handled runs once, at the later time."""
    count = runs(200, 3000)
    done = multiprocessing.get_context("fork").Event()
    arguments = [(part, url, count, done) for part in (schedule, handle, handle)]
    scheduled, *shares = in_processes(run_part, arguments, method="fork", timeout=110)
    handled = Counter(it for share in shares for it in share)
    assert set(handled.values()) == {1}
    assert set(dict(scheduled).items()) <= handled.keys() <= set(scheduled)
    assert sql("SELECT * FROM wfc.scheduled_commands") == []


def boot(url: str) -> None:
    """Call `ensure_store_exists` in a process."""
    with pooled(url) as provider:
        provider.ensure_store_exists()


def test_concurrent_migrations_through_pgbouncer_complete(
    bouncer: PgBouncer, empty_database_url: str, sql: Sql, in_processes: InProcesses
) -> None:
    """A migration lifts the timeouts of its sessions, but not of those that PgBouncer shares."""
    for setting in ("statement_timeout", "lock_timeout"):
        sql(f"ALTER DATABASE {make_url(empty_database_url).database} SET {setting} = '100s'")
    for _ in range(runs(1, 10)):
        sql("DROP SCHEMA IF EXISTS wfc CASCADE")
        in_processes(boot, [(bouncer.url(empty_database_url),)] * 8, method="fork")
        assert differences(empty_database_url) == []
        assert left_behind(bouncer, empty_database_url) == []


def test_calls_succeed_when_pgbouncer_is_killed_and_restarted(bouncer: PgBouncer, url: str, sql: Sql) -> None:
    """Calls in progress are retried or their outcome is determined; the provider is not recreated."""
    stored: list[str] = []
    stop = threading.Event()

    def work(_: int) -> None:
        while not stop.is_set():
            stored.append(provider.create_event(event()))

    def restart_pgbouncer() -> None:
        try:
            for _ in range(runs(3, 30)):
                so_far = len(stored)
                wait_until(lambda: len(stored) > so_far + 20)  # noqa: B023
                bouncer.kill()
                bouncer.start()
        finally:
            stop.set()

    parts: list[Callable[[], Any]] = [restart_pgbouncer, *[partial(work, number) for number in range(4)]]
    with pooled(url) as provider:
        run_in_threads(len(parts), lambda number: parts[number]())
        assert provider.create_event(event(id="afterwards")) == "afterwards"
    found = Counter(id for (id,) in sql("SELECT id FROM wfc.events"))
    assert found == Counter([*stored, "afterwards"])
