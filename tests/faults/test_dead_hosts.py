"""Hosts killed while they process commands: no command is lost, and only commands in progress are run again."""

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
NOISE = 2.0  # tolerance for waits on a busy machine, in seconds
SOON = timedelta(seconds=LEASE + 1 + NOISE)
COMMANDS = 40
LEFT = "SELECT data FROM wfc.scheduled_commands"
SERVER_TIME = "SELECT clock_timestamp()"


def work(url: str, pipe: "Pipe[tuple[str, str], tuple[str, str]]") -> None:
    """Process commands until killed, and send a message at the start and the end of each."""

    def handle(command: ScheduledCommand) -> None:
        pipe.send(("started", command.data))
        time.sleep(0.005)
        pipe.send(("done", command.data))

    with PostgresPersistenceProvider(url, command_lease=LEASE) as provider:
        while True:
            provider.process_commands(at(999), handle)
            time.sleep(0.005)


class Host:
    """A process that handles commands, and the messages received from it."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, child_end = context.Pipe(duplex=False)
        self._process = context.Process(target=work, args=(url, child_end), daemon=True)
        self._process.start()
        child_end.close()
        self.received: dict[str, list[str]] = {"started": [], "done": []}

    def wait_for_messages(self, count: int) -> None:
        """Wait for `count` messages."""
        for _ in range(count):
            assert self._pipe.poll(TIMEOUT), "the host sent no message"
            self._receive()

    def kill(self) -> None:
        """Kill the process, and receive its remaining messages."""
        os.kill(self._process.pid or 0, signal.SIGKILL)
        self._process.join()
        while True:
            try:
                self._receive()
            except EOFError:
                return

    def _receive(self) -> None:
        what, data = self._pipe.recv()
        self.received[what].append(data)


def test_commands_of_killed_hosts_are_run_again_when_their_lease_expires(
    provider: PostgresPersistenceProvider, database_url: str, sql: Sql
) -> None:
    """In each round one of two hosts is killed at a random time and replaced."""
    chance = random.Random(1)
    hosts = [Host(database_url), Host(database_url)]
    dead: list[Host] = []
    try:
        for round in range(kills := runs(5, 50)):
            for number in range(COMMANDS):
                provider.schedule_command(command(f"{round}-{number}"))
            victim = hosts.pop(0)
            victim.wait_for_messages(chance.randrange(1, 20))
            time.sleep(chance.uniform(0, 0.02))
            victim.kill()
            dead.append(victim)
            hosts.append(Host(database_url))
            wait_until(lambda: len(sql(LEFT)) < COMMANDS)
        [(last_kill,)] = sql(SERVER_TIME)
        while sql(LEFT):
            assert sql(SERVER_TIME) < [(last_kill + SOON,)], "the lease has expired, and no host claims the command"
            time.sleep(0.01)
    finally:
        for host in hosts:
            host.kill()
    started = Counter(data for host in dead + hosts for data in host.received["started"])
    done = Counter(data for host in dead + hosts for data in host.received["done"])
    in_progress = {host.received["started"][-1] for host in dead}
    assert len(done) == kills * COMMANDS
    assert {data for data, times in started.items() if times > 1} <= in_progress
    counters.count("dead hosts", faults=kills, acknowledged=len(done))
