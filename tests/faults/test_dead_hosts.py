"""Hosts that are killed while they process commands: nothing is lost, and only what was in hand is run again."""

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from datetime import timedelta
from multiprocessing.connection import Connection as Pipe

from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.form import runs
from tests.provider.databases import wait_until
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.support import TIMEOUT, at, command

LEASE = 1.0
NOISE = 2.0  # seconds that a busy machine may add to a wait
SOON = timedelta(seconds=LEASE + 1 + NOISE)
COMMANDS = 40
LEFT = "SELECT data FROM wfc.scheduled_commands"
SERVER_TIME = "SELECT clock_timestamp()"


def work(url: str, pipe: "Pipe[tuple[str, str], tuple[str, str]]") -> None:
    """Handle commands for ever, and tell of each when it is begun and when it is done."""

    def handle(given: ScheduledCommand) -> None:
        pipe.send(("begun", given.data))
        time.sleep(0.005)
        pipe.send(("done", given.data))

    with PostgresPersistenceProvider(url, command_lease=LEASE) as provider:
        while True:
            provider.process_commands(at(999), handle)
            time.sleep(0.005)


class Host:
    """A process that works, and the commands of which it has told."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, far = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(url, far), daemon=True)
        self._process.start()
        far.close()
        self.told: dict[str, list[str]] = {"begun": [], "done": []}

    def await_news(self, count: int) -> None:
        """Return when it has told so often."""
        for _ in range(count):
            assert self._pipe.poll(TIMEOUT), "the host does nothing"
            self._hear()

    def kill(self) -> None:
        """Kill it, and hear what it had still to say."""
        os.kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        while True:
            try:
                self._hear()
            except EOFError:
                return

    def _hear(self) -> None:
        what, data = self._pipe.recv()
        self.told[what].append(data)


def test_hosts_that_are_killed_one_after_the_other(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """Of two hosts one is killed at any moment, and another takes its place, again and again."""
    chance = random.Random(1)
    hosts = [Host(database_url), Host(database_url)]
    dead: list[Host] = []
    try:
        for round in range(kills := runs(5, 50)):
            for number in range(COMMANDS):
                provider.schedule_command(command(f"{round}-{number}"))
            victim = hosts.pop(0)
            victim.await_news(chance.randrange(1, 20))
            time.sleep(chance.uniform(0, 0.02))
            victim.kill()
            dead.append(victim)
            hosts.append(Host(database_url))
            wait_until(lambda: len(sql(LEFT)) < COMMANDS)
        [(last_kill,)] = sql(SERVER_TIME)
        while sql(LEFT):
            assert sql(SERVER_TIME) < [(last_kill + SOON,)], "the lease is over, and nobody comes"
            time.sleep(0.01)
    finally:
        for host in hosts:
            host.kill()
    begun = Counter(data for host in dead + hosts for data in host.told["begun"])
    done = Counter(data for host in dead + hosts for data in host.told["done"])
    in_hand = {host.told["begun"][-1] for host in dead}
    assert len(done) == kills * COMMANDS
    assert {data for data, times in begun.items() if times > 1} <= in_hand
    counters.count("dead hosts", faults=kills, acknowledged=len(done))
