"""Hosts that share the scheduled commands: none lost, none handled twice, one row each however often scheduled."""

import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from typing import Any

import psycopg

from tests.concurrency.crowd import together
from tests.conftest import InProcesses, Sql
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.support import TIMEOUT, at, ms

COMMANDS = 3000
RESCHEDULES = 500
LAST_NUMBER = "SELECT last_value FROM wfc.scheduled_commands_id_seq"

IN_HAND = "SELECT data FROM wfc.scheduled_commands WHERE claim IS NOT NULL LIMIT 1"

Occurrence = tuple[str, int]
"""A command's data and the due time that one call of `schedule_command` gave it."""


def schedule_all(url: str, done: Event) -> list[Occurrence]:
    """Schedule commands that are due within two milliseconds, and every few again what a host has in hand."""
    chance = random.Random(1)
    scheduled: dict[str, list[int]] = {}
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as connection:
        for number in range(COMMANDS + RESCHEDULES):
            again = connection.execute(IN_HAND).fetchone() if number % 7 == 6 else None
            data = again[0] if again else f"workflow-{number}"
            dues = scheduled.setdefault(data, [])
            due = max(time.time_ns() // 1_000_000 + chance.randint(-2, 2), *(it + 1 for it in dues), 0)
            provider.schedule_command(ScheduledCommand.process_workflow(data, due))
            dues.append(due)
    done.set()
    return [(data, due) for data, dues in scheduled.items() for due in dues]


def handle_all(url: str, done: Event) -> list[Occurrence]:
    """Handle what is due until all has been scheduled and a call finds nothing."""
    handled: list[Occurrence] = []

    def handle(command: ScheduledCommand) -> None:
        handled.append((command.data, command.execute_time))
        provider.get_runnable_events(at(0))

    with PostgresPersistenceProvider(url) as provider:
        finishing = False
        while provider.process_commands(datetime.now(UTC) + timedelta(seconds=finishing), handle) or not finishing:
            finishing = done.is_set()
    return handled


def take_part(part: Callable[[str, Event], list[Occurrence]], url: str, done: Event) -> list[Occurrence]:
    """A process of the race."""
    return part(url, done)


def test_every_occurrence_is_handled_once(database_url: str, sql: Sql, in_processes: InProcesses) -> None:
    """Two hosts handle while a third process schedules, also what one of them is handling at that moment.

    A command that was scheduled again before it was handled has moved: only its last time must be handled.
    """
    done = multiprocessing.get_context("fork").Event()
    arguments = [(part, database_url, done) for part in (schedule_all, handle_all, handle_all)]
    scheduled, *shares = in_processes(take_part, arguments, method="fork")
    handled = Counter(occurrence for share in shares for occurrence in share)
    assert all(count == 1 for count in handled.values())
    assert handled.keys() <= set(scheduled)
    assert handled.keys() >= set({data: (data, due) for data, due in scheduled}.values())
    assert len(scheduled) - len(dict(scheduled)) > 50, "too little was scheduled again"
    assert all(shares), "both hosts have had their share"
    assert sql("SELECT * FROM wfc.scheduled_commands") == []


def test_one_row_however_many_schedule(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Its time is the last that one of them asked for, and the int4 sequence of the ids hardly moves."""
    dues = {
        number: [ms(random.Random(number).randrange(1000) + turn / 10) for turn in range(20)] for number in range(64)
    }

    def schedule(number: int) -> None:
        for due in dues[number]:
            provider.schedule_command(ScheduledCommand.process_event("one", due))

    together(64, schedule)
    [(stored,)] = sql("SELECT execute_time FROM wfc.scheduled_commands")
    assert stored in [own[-1] for own in dues.values()]
    [(numbers,)] = sql(LAST_NUMBER)
    assert numbers <= 10, "only those that raced for the first row have taken one"


def test_a_row_that_exists_takes_no_new_number(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """And of two calls in turn the later one's time stands, be it earlier or later."""
    for due in (ms(1), ms(3), ms(2), ms(2), ms(0)):
        provider.schedule_command(ScheduledCommand.process_event("one", due))
        assert sql("SELECT execute_time FROM wfc.scheduled_commands") == [(due,)]
    assert sql(LAST_NUMBER) == [(1,)]


def test_a_command_scheduled_while_it_is_removed_is_not_lost(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Each time that its handler has begun the command is scheduled again, in a race with its removal."""
    occurrences = [ms(0) + number for number in range(300)]
    handled: list[int] = []
    begun = threading.Semaphore(0)

    def handle(command: ScheduledCommand) -> None:
        handled.append(command.execute_time)
        begun.release()

    def schedule() -> None:
        for due in occurrences:
            provider.schedule_command(ScheduledCommand.process_event("one", due))
            assert begun.acquire(timeout=5), f"the occurrence {due} was lost"

    def process() -> None:
        until = time.monotonic() + TIMEOUT
        while len(handled) < len(occurrences) and time.monotonic() < until:
            provider.process_commands(at(999), handle)

    parts: list[Callable[[], Any]] = [schedule, process]
    together(2, lambda number: parts[number]())
    assert handled == occurrences
    assert sql("SELECT * FROM wfc.scheduled_commands") == []
