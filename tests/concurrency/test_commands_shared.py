"""Several hosts handle scheduled commands: none is lost or handled twice, and each command is one row."""

import itertools
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

from tests.concurrency.support import run_in_threads
from tests.conftest import InProcesses, Sql
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.support import TIMEOUT, at, ms

COMMANDS = 3500
RESCHEDULED = 50
LAST_NUMBER = "SELECT last_value FROM wfc.scheduled_commands_id_seq"

CLAIMED = "SELECT data FROM wfc.scheduled_commands WHERE claim IS NOT NULL LIMIT 1"

Occurrence = tuple[str, int]
"""A command's data, and the due time that one call of `schedule_command` set."""


def schedule_all(url: str, done: Event) -> list[Occurrence]:
    """Schedule commands due within two milliseconds; every seventh call reschedules a claimed command.

    It goes on until more than `RESCHEDULED` were rescheduled, within `TIMEOUT`.
    """
    rng = random.Random(1)
    scheduled: dict[str, list[int]] = {}
    rescheduled, deadline = 0, time.monotonic() + TIMEOUT
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as connection:
        for number in itertools.count():
            if number >= COMMANDS and (rescheduled > RESCHEDULED or time.monotonic() > deadline):
                break
            claimed = connection.execute(CLAIMED).fetchone() if number % 7 == 6 else None
            data = claimed[0] if claimed else f"workflow-{number}"
            rescheduled += claimed is not None
            dues = scheduled.setdefault(data, [])
            due = max(time.time_ns() // 1_000_000 + rng.randint(-2, 2), *(it + 1 for it in dues), 0)
            provider.schedule_command(ScheduledCommand.process_workflow(data, due))
            dues.append(due)
    done.set()
    return [(data, due) for data, dues in scheduled.items() for due in dues]


def handle_all(url: str, done: Event) -> list[Occurrence]:
    """Handle due commands until all have been scheduled and a call finds none."""
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
    """Runs in each process."""
    return part(url, done)


def test_every_occurrence_is_handled_once(database_url: str, sql: Sql, in_processes: InProcesses) -> None:
    """Two hosts handle commands while a third process schedules, including commands that are being handled.

    A command that is rescheduled before it is handled keeps its latest due time only.
    """
    done = multiprocessing.get_context("fork").Event()
    arguments = [(part, database_url, done) for part in (schedule_all, handle_all, handle_all)]
    scheduled, *shares = in_processes(take_part, arguments, method="fork")
    handled = Counter(occurrence for share in shares for occurrence in share)
    assert all(count == 1 for count in handled.values())
    assert handled.keys() <= set(scheduled)
    assert handled.keys() >= set({data: (data, due) for data, due in scheduled}.values())
    assert len(scheduled) - len(dict(scheduled)) > RESCHEDULED, "too few commands were rescheduled"
    assert all(shares), "one of the hosts handled nothing"
    assert sql("SELECT * FROM wfc.scheduled_commands") == []


def test_command_scheduled_by_many_threads_is_one_row(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Its due time is the last that one of the threads set, and the int4 id sequence hardly advances."""
    dues = {
        number: [ms(random.Random(number).randrange(1000) + turn / 10) for turn in range(20)] for number in range(64)
    }

    def schedule(number: int) -> None:
        for due in dues[number]:
            provider.schedule_command(ScheduledCommand.process_event("one", due))

    run_in_threads(64, schedule)
    [(stored,)] = sql("SELECT execute_time FROM wfc.scheduled_commands")
    assert stored in [own[-1] for own in dues.values()]
    [(numbers,)] = sql(LAST_NUMBER)
    assert numbers <= 10, "only the threads racing for the first row may use an id"


def test_rescheduling_does_not_advance_the_id_sequence(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """The due time of the last call is stored, whether it is earlier or later."""
    for due in (ms(1), ms(3), ms(2), ms(2), ms(0)):
        provider.schedule_command(ScheduledCommand.process_event("one", due))
        assert sql("SELECT execute_time FROM wfc.scheduled_commands") == [(due,)]
    assert sql(LAST_NUMBER) == [(1,)]


def test_command_rescheduled_during_its_removal_is_not_lost(provider: PostgresPersistenceProvider, sql: Sql) -> None:
    """Each time its handler starts, the command is rescheduled, concurrently with its removal."""
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
    run_in_threads(2, lambda number: parts[number]())
    assert handled == occurrences
    assert sql("SELECT * FROM wfc.scheduled_commands") == []
