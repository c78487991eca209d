"""A command of a dead host is handled when its lease expires; a slow host cannot undo the work of its successor."""

import multiprocessing
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import TIMEOUT, at, command

LEASE = 1.0  # seconds
SOON = timedelta(seconds=1)
ROWS = "SELECT * FROM wfc.scheduled_commands"


def hang_in_third_handler(url: str, pipe: "Pipe[str, str]") -> None:
    """A host that reports each command before it handles it, and hangs in its third handler."""

    def handle(received: ScheduledCommand) -> None:
        handled.append(received.data)
        pipe.send(received.data)
        if len(handled) == 3:
            threading.Event().wait()

    handled: list[str] = []
    with PostgresPersistenceProvider(url, command_lease=LEASE) as provider:
        provider.process_commands(at(999), handle)


def kill_a_host(url: str) -> list[str]:
    """Kill a host in its third handler; return the commands that it received: two handled, one in progress."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    host = context.Process(target=hang_in_third_handler, args=(url, far))
    host.start()
    seen = [near.recv() for _ in range(3) if near.poll(TIMEOUT)]
    host.kill()
    host.join()
    return seen


def test_command_of_killed_host_is_handled_when_its_lease_expires(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """Unclaimed commands are handled immediately, the claimed one when its lease expires, finished ones never again."""
    names = [f"{number:02}" for number in range(20)]
    for number, name in enumerate(names):
        provider.schedule_command(command(name, number))
    assert kill_a_host(database_url) == names[:3]
    [(lease_end,)] = sql("SELECT claimed_until FROM wfc.scheduled_commands WHERE data = %s", [names[2]])
    [(start,)] = sql("SELECT clock_timestamp()")
    handled: dict[str, datetime] = {}

    def handle(received: ScheduledCommand) -> None:
        assert received.data not in handled
        [(handled[received.data],)] = sql("SELECT clock_timestamp()")

    while sql(ROWS):
        provider.process_commands(at(999), handle)
    assert sorted(handled) == names[2:]
    assert all(timestamp < start + SOON for name, timestamp in handled.items() if name != names[2])
    assert lease_end <= handled[names[2]] < max(lease_end, start) + SOON


class LateHostScenario:
    """A host whose lease expires while its handler runs, and a successor that takes over the command."""

    def __init__(self, url: str, fails: bool) -> None:
        self._url = url
        self._fails = fails
        self._begun = threading.Event()
        self._taken_over = threading.Event()
        self._ended = threading.Event()
        self.outcome: Any = None

    def late_host(self) -> None:
        """Starts handling, and returns once the successor is handling the command."""
        with PostgresPersistenceProvider(self._url, command_lease=0.05) as provider:
            try:
                self.outcome = provider.process_commands(at(999), self._handle_slowly)
            except ExceptionGroup as failures:
                self.outcome = failures
        self._ended.set()

    def _handle_slowly(self, _: ScheduledCommand) -> None:
        self._begun.set()
        assert self._taken_over.wait(TIMEOUT)
        if self._fails:
            raise ValueError("failed after the lease expired")

    def successor(self, while_running: Callable[[], None]) -> None:
        """Takes over the command when the lease expires; calls `while_running` when the late host has returned."""

        def handle(_: ScheduledCommand) -> None:
            self._taken_over.set()
            assert self._ended.wait(TIMEOUT)
            while_running()

        assert self._begun.wait(TIMEOUT)
        with PostgresPersistenceProvider(self._url) as provider:
            while not provider.process_commands(at(999), handle):
                pass


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("rescheduled", [False, True])
def test_late_host_does_not_affect_its_successor(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, fails: bool, rescheduled: bool
) -> None:
    """When it returns, the row is not removed, not released to a third host, and still marked as rescheduled."""
    provider.schedule_command(command("one"))
    scenario = LateHostScenario(database_url, fails)
    third = Recorder()

    def while_running() -> None:
        assert len(sql(ROWS)) == 1
        assert provider.process_commands(at(999), never) == 0
        if rescheduled:
            provider.schedule_command(command("one"))

    parts: list[Callable[[], None]] = [scenario.late_host, lambda: scenario.successor(while_running)]
    run_in_threads(2, lambda number: parts[number]())
    assert isinstance(scenario.outcome, ExceptionGroup) if fails else scenario.outcome == 1
    assert len(sql(ROWS)) == rescheduled
    assert provider.process_commands(at(999), third) == rescheduled
    assert sql(ROWS) == []


def test_expired_lease_is_claimed_by_one_of_many_hosts(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Several hosts share the commands of a dead host: each command is handled once."""
    names = [f"{number:02}" for number in range(30)]
    for name in names:
        provider.schedule_command(command(name))
    sql("UPDATE wfc.scheduled_commands SET claim = id, claimed_until = clock_timestamp() + interval '0.3 seconds'")
    hosts = [Recorder() for _ in range(8)]
    start = datetime.now(UTC)

    def host(number: int) -> None:
        while sum(len(each.seen) for each in hosts) < len(names):
            provider.process_commands(at(999), hosts[number])

    run_in_threads(len(hosts), host)
    assert (datetime.now(UTC) - start).total_seconds() > 0.2
    assert sorted(name for each in hosts for name in each.data) == names
    assert sql(ROWS) == []
