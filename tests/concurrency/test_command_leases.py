"""A host that dies in its handler costs one lease; one that is late can undo nothing of its successor's."""

import multiprocessing
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest

from tests.concurrency.crowd import together
from tests.conftest import Sql
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import TIMEOUT, at, command

LEASE = 1.0  # seconds
SOON = timedelta(seconds=1)
ROWS = "SELECT * FROM wfc.scheduled_commands"


def die_in_the_third(url: str, pipe: "Pipe[str, str]") -> None:
    """A host that tells of each command before it handles it, and never comes back from its third."""

    def handle(given: ScheduledCommand) -> None:
        handled.append(given.data)
        pipe.send(given.data)
        if len(handled) == 3:
            threading.Event().wait()

    handled: list[str] = []
    with PostgresPersistenceProvider(url, command_lease=LEASE) as provider:
        provider.process_commands(at(999), handle)


def kill_a_host(url: str) -> list[str]:
    """What a host had in its hands until it was killed: two commands that it finished, and one."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    host = context.Process(target=die_in_the_third, args=(url, far))
    host.start()
    seen = [near.recv() for _ in range(3) if near.poll(TIMEOUT)]
    host.kill()
    host.join()
    return seen


def test_a_killed_host_costs_one_lease(provider: PostgresPersistenceProvider, database_url: str, sql: Sql) -> None:
    """What it had not begun is handled at once, what it had in hand when the lease is over, the rest never again."""
    names = [f"{number:02}" for number in range(20)]
    for number, name in enumerate(names):
        provider.schedule_command(command(name, number))
    assert kill_a_host(database_url) == names[:3]
    [(over,)] = sql("SELECT claimed_until FROM wfc.scheduled_commands WHERE data = %s", [names[2]])
    [(start,)] = sql("SELECT clock_timestamp()")
    handled: dict[str, datetime] = {}

    def handle(given: ScheduledCommand) -> None:
        assert given.data not in handled
        [(handled[given.data],)] = sql("SELECT clock_timestamp()")

    while sql(ROWS):
        provider.process_commands(at(999), handle)
    assert sorted(handled) == names[2:]
    assert all(moment < start + SOON for name, moment in handled.items() if name != names[2])
    assert over <= handled[names[2]] < max(over, start) + SOON


class Late:
    """A host whose lease runs out while its handler runs, and a successor that takes the command over."""

    def __init__(self, url: str, fails: bool) -> None:
        self._url = url
        self._fails = fails
        self._begun = threading.Event()
        self._taken_over = threading.Event()
        self._ended = threading.Event()
        self.outcome: Any = None

    def late_host(self) -> None:
        """Begins, and ends when the successor is at work."""
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
            raise ValueError("too late, and in vain")

    def successor(self, while_running: Callable[[], None]) -> None:
        """Takes the command over as soon as it can; `while_running` is called when the late host has ended."""

        def handle(_: ScheduledCommand) -> None:
            self._taken_over.set()
            assert self._ended.wait(TIMEOUT)
            while_running()

        assert self._begun.wait(TIMEOUT)
        with PostgresPersistenceProvider(self._url) as provider:
            while not provider.process_commands(at(999), handle):
                pass


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_late_host_cannot_undo_its_successor(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql, fails: bool, again: bool
) -> None:
    """Its end neither removes the command nor lets a third host have it, nor makes forget that it was scheduled."""
    provider.schedule_command(command("one"))
    story = Late(database_url, fails)
    third = Recorder()

    def while_running() -> None:
        assert len(sql(ROWS)) == 1
        assert provider.process_commands(at(999), never) == 0
        if again:
            provider.schedule_command(command("one"))

    parts: list[Callable[[], None]] = [story.late_host, lambda: story.successor(while_running)]
    together(2, lambda number: parts[number]())
    assert isinstance(story.outcome, ExceptionGroup) if fails else story.outcome == 1
    assert len(sql(ROWS)) == again
    assert provider.process_commands(at(999), third) == again
    assert sql(ROWS) == []


def test_a_lease_that_is_over_is_taken_by_one(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Many hosts that wait for a dead one's commands share them."""
    names = [f"{number:02}" for number in range(30)]
    for name in names:
        provider.schedule_command(command(name))
    sql("UPDATE wfc.scheduled_commands SET claim = id, claimed_until = clock_timestamp() + interval '0.3 seconds'")
    hosts = [Recorder() for _ in range(8)]
    over = datetime.now(UTC)

    def host(number: int) -> None:
        while sum(len(each.seen) for each in hosts) < len(names):
            provider.process_commands(at(999), hosts[number])

    together(len(hosts), host)
    assert (datetime.now(UTC) - over).total_seconds() > 0.2
    assert sorted(name for each in hosts for name in each.data) == names
    assert sql(ROWS) == []
