"""Leases and tokens are judged by the database's clock: a host whose own is wrong comes neither early nor late."""

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
ERROR = 5.0  # seconds by which a busy machine may mistake an hour
SERVER_TIME = "SELECT clock_timestamp()"

Taken = tuple[str, datetime]
"""What was taken, and when, by the server's clock."""


@contextmanager
def spawned(clock: Clock, part: Any, *arguments: object) -> Iterator["Pipe[Any, Any]"]:
    """A process that lives by this clock, and what it says; it is killed when the block ends."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=part, args=(*arguments, far), daemon=True)
    with clock.followed():
        process.start()
    far.close()
    try:
        yield near
    finally:
        process.kill()
        process.join()
        near.close()


def answer(pipe: "Pipe[Any, Any]") -> Any:
    """What the process says next."""
    assert pipe.poll(TIMEOUT), "the process says nothing"
    return pipe.recv()


@pytest.fixture
def clocks(tmp_path: Path) -> tuple[Clock, Clock]:
    """One goes an hour behind, one an hour before."""
    return Clock(tmp_path / "behind", -HOUR), Clock(tmp_path / "before", HOUR)


def look(url: str, pipe: "Pipe[Any, Any]") -> None:
    """Say how far off one's own clock is, and what was logged about it."""
    logged: SimpleQueue[Any] = SimpleQueue()
    logger.addHandler(QueueHandler(logged))
    with PostgresPersistenceProvider(url) as provider:
        offset = provider.get_statistics().clock_offset
    pipe.send((offset, [logged.get().getMessage() for _ in range(logged.qsize())]))


def test_a_host_learns_how_wrong_its_clock_is(clocks: tuple[Clock, Clock], database_url: str) -> None:
    for clock, ahead in zip(clocks, (-HOUR, HOUR), strict=True):
        with spawned(clock, look, database_url) as host:
            offset, logged = answer(host)
        assert abs(offset - ahead) < ERROR
        assert len(logged) == 1
        assert "clock" in logged[0]


def hold_and_wait(
    url: str, name: str, own: list[str], others: list[str], seconds: float, pipe: "Pipe[Any, Any]"
) -> None:
    """Take one's own subscriptions for so many seconds, and then the others' as soon as that can be."""
    taken: list[Taken] = []
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:

        def until(seconds: float) -> datetime:
            """So many seconds from now by the server's clock, as this host knows it."""
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
            pipe.poll(0.01)  # libfaketime lets time.sleep() fail
    pipe.send((attempts, taken))


def test_a_token_is_held_for_its_time(
    clocks: tuple[Clock, Clock], provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """Two hosts want each other's subscriptions, and their clocks change places while they wait."""
    count = runs(10, 30)
    first, second = ([provider.create_event_subscription(subscription()) for _ in range(count)] for _ in range(2))
    with (
        spawned(clocks[0], hold_and_wait, database_url, "behind", first, second, 3.0) as behind,
        spawned(clocks[1], hold_and_wait, database_url, "before", second, first, 3.0) as before,
    ):
        assert answer(behind) == answer(before) == [True] * count
        expiries: dict[str, datetime] = dict(sql("SELECT id, external_token_expiry FROM wfc.event_subscriptions"))
        [(start,)] = sql(SERVER_TIME)
        behind.send("go")
        before.send("go")
        time.sleep(1.0)  # so that they have asked in vain, before and after
        clocks[0].set(HOUR)
        clocks[1].set(-HOUR)
        told = [answer(behind), answer(before)]
    taken = [each for _, share in told for each in share]
    assert sorted(id for id, _ in taken) == sorted(expiries)
    assert start < min(expiries.values())
    assert all(expiries[id] <= moment < expiries[id] + SOON for id, moment in taken)
    assert all(attempts > 200 for attempts, _ in told), "too little was tried"


def handle_for_ever(url: str, lease: float, pipe: "Pipe[Any, Any]") -> None:
    """Come into a command's handler, and not out of it."""

    def handle(given: ScheduledCommand) -> None:
        pipe.send(given.data)
        pipe.recv()

    with PostgresPersistenceProvider(url, command_lease=lease) as provider:
        provider.process_commands(at(999), handle)


def succeed(url: str, pipe: "Pipe[Any, Any]") -> None:
    """Handle what can be had, as soon as it can, and say when."""
    taken: list[Taken] = []
    with PostgresPersistenceProvider(url) as provider, psycopg.connect(url, autocommit=True) as server:

        def handle(given: ScheduledCommand) -> None:
            taken.append((given.data, server.execute(SERVER_TIME).fetchall()[0][0]))

        pipe.send("ready")
        pipe.recv()
        while not taken:
            provider.process_commands(at(999), handle)
            pipe.poll(0.01)  # libfaketime lets time.sleep() fail
    pipe.send(taken)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_command_is_leased_for_its_time(
    clocks: tuple[Clock, Clock], provider: PostgresPersistenceProvider, database_url: str, sql: Sql, ahead: bool
) -> None:
    """A host hangs in its handler; the other, two hours off, comes when the lease is over."""
    first, second = reversed(clocks) if ahead else clocks
    provider.schedule_command(command("one"))
    with spawned(second, succeed, database_url) as successor:
        assert answer(successor) == "ready"
        with spawned(first, handle_for_ever, database_url, 2.0) as late:
            assert answer(late) == "one"
            [(over,)] = sql("SELECT claimed_until FROM wfc.scheduled_commands")
            [(start,)] = sql(SERVER_TIME)
            successor.send("go")
            [(data, moment)] = answer(successor)
    assert data == "one"
    assert start < over <= moment < over + SOON
