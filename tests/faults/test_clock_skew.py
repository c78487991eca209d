"""Leases and tokens expire by the clock of the database, also when the clock of a host is wrong."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import psycopg
import pytest

from tests.conftest import Sql
from tests.faults.kit.clock import HOUR, Clock
from tests.faults.kit.form import runs
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.repositories.base import logger
from wfe_postgres.testing.conformance.support import TIMEOUT, at, command, subscription

SOON = timedelta(seconds=1)
ERROR = 5.0  # tolerance of a measured clock offset on a busy machine, in seconds
SERVER_TIME = "SELECT clock_timestamp()"

Taken = tuple[str, datetime]
"""The id of a token or command, and when it was taken by the clock of the server."""


@contextmanager
def spawned(clock: Clock, part: Any, *arguments: object) -> Iterator["Pipe[Any, Any]"]:
    """Start a process that uses this clock and yield the pipe to it; the process is killed at the end of the block."""
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    process = context.Process(target=part, args=(*arguments, child_end), daemon=True)
    with clock.followed():
        process.start()
    child_end.close()
    try:
        yield parent_end
    finally:
        process.kill()
        process.join()
        parent_end.close()


def answer(pipe: "Pipe[Any, Any]") -> Any:
    """Return the next message of the process."""
    assert pipe.poll(TIMEOUT), "the process sent nothing"
    return pipe.recv()


@pytest.fixture
def clocks(tmp_path: Path) -> tuple[Clock, Clock]:
    """A clock that is one hour slow and a clock that is one hour fast."""
    return Clock(tmp_path / "slow", -HOUR), Clock(tmp_path / "fast", HOUR)


def report_clock_offset(url: str, pipe: "Pipe[Any, Any]") -> None:
    """Send the clock offset of this process and the messages that were logged."""
    logged: SimpleQueue[Any] = SimpleQueue()
    logger.addHandler(QueueHandler(logged))
    with PostgresPersistenceProvider(url) as provider:
        offset = provider.get_statistics().clock_offset
    pipe.send((offset, [logged.get().getMessage() for _ in range(logged.qsize())]))


def test_clock_offset_of_a_host_is_measured_and_logged(clocks: tuple[Clock, Clock], database_url: str) -> None:
    for clock, ahead in zip(clocks, (-HOUR, HOUR), strict=True):
        with spawned(clock, report_clock_offset, database_url) as host:
            offset, logged = answer(host)
        assert abs(offset - ahead) < ERROR
        assert len(logged) == 1
        assert "clock" in logged[0]


def hold_and_wait(
    url: str, name: str, own: list[str], others: list[str], seconds: float, pipe: "Pipe[Any, Any]"
) -> None:
    """Set the tokens of `own` for `seconds`, then retry those of `others` until each is set."""
    taken: list[Taken] = []
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:

        def until(seconds: float) -> datetime:
            """The time in `seconds` by the clock of the server, computed from the measured offset."""
            return datetime.now(UTC) + timedelta(seconds=seconds - provider.get_statistics().clock_offset)

        expiry = until(seconds)
        pipe.send([provider.set_subscription_token(id, name, name, expiry) for id in own])
        pipe.recv()
        attempts = 0
        while others:
            for id in list(others):
                attempts += 1
                if provider.set_subscription_token(id, f"{name} again", name, expiry + timedelta(hours=2)):
                    taken.append((id, server.execute(SERVER_TIME).fetchall()[0][0]))
                    others.remove(id)
            pipe.poll(0.01)  # time.sleep() fails under libfaketime
    pipe.send((attempts, taken))


def test_token_expires_by_the_database_clock_when_host_clocks_are_wrong(
    clocks: tuple[Clock, Clock], provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """Two hosts retry the tokens that the other holds; their clocks are swapped while they retry."""
    count = runs(10, 30)
    first, second = ([provider.create_event_subscription(subscription()) for _ in range(count)] for _ in range(2))
    with (
        spawned(clocks[0], hold_and_wait, database_url, "slow", first, second, 3.0) as slow,
        spawned(clocks[1], hold_and_wait, database_url, "fast", second, first, 3.0) as fast,
    ):
        assert answer(slow) == answer(fast) == [True] * count
        expiries: dict[str, datetime] = dict(sql("SELECT id, external_token_expiry FROM wfc.event_subscriptions"))
        [(start,)] = sql(SERVER_TIME)
        slow.send("go")
        fast.send("go")
        time.sleep(1.0)  # both hosts make failing attempts before and after the clocks are swapped
        clocks[0].set(HOUR)
        clocks[1].set(-HOUR)
        results = [answer(slow), answer(fast)]
    taken = [each for _, share in results for each in share]
    assert sorted(id for id, _ in taken) == sorted(expiries)
    assert start < min(expiries.values())
    assert all(expiries[id] <= timestamp < expiries[id] + SOON for id, timestamp in taken)
    assert all(attempts > 200 for attempts, _ in results), "too few attempts were made"


def handle_without_returning(url: str, lease: float, pipe: "Pipe[Any, Any]") -> None:
    """Process commands with a handler that does not return."""

    def handle(command: ScheduledCommand) -> None:
        pipe.send(command.data)
        pipe.recv()

    with PostgresPersistenceProvider(url, command_lease=lease) as provider:
        provider.process_commands(at(999), handle)


def process_next_command(url: str, pipe: "Pipe[Any, Any]") -> None:
    """Poll until a command can be claimed; send its data and the time of the claim."""
    taken: list[Taken] = []
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:

        def handle(command: ScheduledCommand) -> None:
            taken.append((command.data, server.execute(SERVER_TIME).fetchall()[0][0]))

        pipe.send("ready")
        pipe.recv()
        while not taken:
            provider.process_commands(at(999), handle)
            pipe.poll(0.01)  # time.sleep() fails under libfaketime
    pipe.send(taken)


@pytest.mark.parametrize("ahead", [False, True])
def test_command_lease_expires_by_the_database_clock_when_host_clocks_are_wrong(
    clocks: tuple[Clock, Clock], provider: PostgresPersistenceProvider, database_url: str, sql: Sql, ahead: bool
) -> None:
    """The handler of one host hangs; the other host, two hours apart, claims the command when the lease expires."""
    first, second = reversed(clocks) if ahead else clocks
    provider.schedule_command(command("one"))
    with spawned(second, process_next_command, database_url) as successor:
        assert answer(successor) == "ready"
        with spawned(first, handle_without_returning, database_url, 2.0) as late:
            assert answer(late) == "one"
            [(expiry,)] = sql("SELECT claimed_until FROM wfc.scheduled_commands")
            [(start,)] = sql(SERVER_TIME)
            successor.send("go")
            [(data, timestamp)] = answer(successor)
    assert data == "one"
    assert start < expiry <= timestamp < expiry + SOON
