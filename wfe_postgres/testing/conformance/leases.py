"""Leases of commands: concurrent hosts, and hosts that died.

A killed host is simulated by a thread whose handler blocks until the test releases it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ScheduledCommand
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    TIMEOUT,
    Configure,
    Conformance,
    at,
    command,
    eventually,
)

LEASE = 0.3
"""Seconds of the short lease; longer than a database call takes."""


class Host:
    """A thread in `process_commands` that blocks in its first handler until it is released."""

    def __init__(self, provider: PersistenceProvider, fails: bool = False) -> None:
        self.handled: Recorder = Recorder()
        self.count: int | None = None
        self._fails = fails
        self._busy, self._released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(provider,), daemon=True)

    def _run(self, provider: PersistenceProvider) -> None:
        try:
            self.count = provider.process_commands(at(9), self._handle)
        except ExceptionGroup:
            self.count = 0

    def _handle(self, command: ScheduledCommand) -> None:
        self.handled(command)
        self._busy.set()
        assert self._released.wait(TIMEOUT)
        if self._fails:
            raise ValueError

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Run the block while the first handler is running; the host has ended afterwards."""
        self._thread.start()
        assert self._busy.wait(TIMEOUT), "the host has not started a command"
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Release the handler and wait for the host to end."""
        self._released.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


class LeaseConformance(Conformance):
    """`process_commands` with concurrent hosts."""

    @pytest.fixture
    def short_lease(self, configure: Configure) -> PersistenceProvider:
        """A provider on the same store with a short lease."""
        return configure(command_lease=LEASE)

    def test_nobody_handles_what_is_being_handled(self, provider: PersistenceProvider) -> None:
        """A command under a valid lease is not handled by another host, and the other host does not block."""
        provider.schedule_command(command("one"))
        host = Host(provider)
        with host.busy():
            assert provider.process_commands(at(9), never) == 0
        assert host.count == 1
        assert provider.process_commands(at(9), never) == 0

    @pytest.mark.parametrize("second", [0, 5], ids=["same time", "later"])
    def test_scheduled_again_while_a_handler_runs(self, provider: PersistenceProvider, second: int) -> None:
        """The new occurrence is not lost and can be claimed after the running handler has ended."""
        provider.schedule_command(command("one"))
        host = Host(provider)
        with host.busy():
            provider.schedule_command(command("one", second))
            assert provider.process_commands(at(9), never) == 0
        assert host.handled.seen == [command("one")]
        handled = Recorder()
        assert provider.process_commands(at(9), handled) == 1
        assert handled.seen == [command("one", second)]
        assert provider.process_commands(at(9), never) == 0

    def test_scheduled_again_while_a_handler_fails(self, provider: PersistenceProvider) -> None:
        """One command remains, with the `execute_time` of the last call."""
        provider.schedule_command(command("one"))
        with Host(provider, fails=True).busy():
            provider.schedule_command(command("one", 5))
        assert provider.process_commands(at(4), never) == 0
        assert provider.process_commands(at(5), Recorder()) == 1

    def test_a_killed_hosts_commands_come_back(self, short_lease: PersistenceProvider) -> None:
        """After the lease expires, another host can claim the unhandled commands."""
        for number in range(3):
            short_lease.schedule_command(command(str(number), number))
        handled = Recorder()
        with Host(short_lease).busy():
            counts = 0
            while len(handled.seen) < 3:
                counts += eventually(lambda: short_lease.process_commands(at(9), handled))
        assert counts == 3
        assert sorted(handled.data) == ["0", "1", "2"]

    def test_a_late_host_cannot_undo_its_successor(
        self, provider: PersistenceProvider, short_lease: PersistenceProvider
    ) -> None:
        """A handler that returns after its lease expired neither removes nor releases the claim of another host."""
        short_lease.schedule_command(command("one"))
        late, successor = Host(short_lease), Host(provider, fails=True)
        with late.busy():
            eventually(lambda: short_lease.process_commands(at(9), Recorder()))
            short_lease.schedule_command(command("one", 1))
            with successor.busy():
                late.end()
                assert short_lease.process_commands(at(9), never) == 0
        handled = Recorder()
        assert provider.process_commands(at(9), handled) == 1
        assert successor.handled.seen == handled.seen == [command("one", 1)]

    def test_a_late_host_leaves_a_new_occurrence(self, short_lease: PersistenceProvider) -> None:
        """A command that was rescheduled after the lease expired is handled."""
        short_lease.schedule_command(command("one"))
        with Host(short_lease).busy():
            eventually(lambda: short_lease.process_commands(at(9), Recorder()))
            short_lease.schedule_command(command("one"))
        handled = Recorder()
        assert short_lease.process_commands(at(9), handled) == 1
        assert handled.seen == [command("one")]

    def test_scheduled_again_and_the_host_killed(self, short_lease: PersistenceProvider) -> None:
        """The new occurrence can be claimed after the lease of the running handler expires."""
        short_lease.schedule_command(command("one"))
        handled = Recorder()
        with Host(short_lease).busy():
            short_lease.schedule_command(command("one", 1))
            assert eventually(lambda: short_lease.process_commands(at(9), handled)) == 1
        assert handled.seen == [command("one", 1)]
        assert short_lease.process_commands(at(9), never) == 0
