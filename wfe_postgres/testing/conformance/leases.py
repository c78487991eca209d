"""What happens to a command beside and after the handler that runs it: other hosts, and hosts that died.

A killed host is a thread whose handler does not come back before the test lets it.
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
"""Seconds of the short lease: long enough for a database to answer in between."""


class Host:
    """A thread in `process_commands`, held up in its first handler until it is let go."""

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
        """The block runs while the host's first handler does; after it the host has ended."""
        self._thread.start()
        assert self._busy.wait(TIMEOUT), "the host has begun with a command"
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Let the handler go, and wait for the host."""
        self._released.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()


class LeaseConformance(Conformance):
    """`process_commands`, where a second host is at work."""

    @pytest.fixture
    def hasty(self, configure: Configure) -> PersistenceProvider:
        """A provider on the same store whose leases are over soon."""
        return configure(command_lease=LEASE)

    def test_nobody_handles_what_is_being_handled(self, provider: PersistenceProvider) -> None:
        """None is handled by two of them while both live; who finds nothing else to do waits on nobody."""
        provider.schedule_command(command("one"))
        host = Host(provider)
        with host.busy():
            assert provider.process_commands(at(9), never) == 0
        assert host.count == 1
        assert provider.process_commands(at(9), never) == 0

    @pytest.mark.parametrize("second", [0, 5], ids=["same time", "later"])
    def test_scheduled_again_while_a_handler_runs(self, provider: PersistenceProvider, second: int) -> None:
        """The new occurrence is not lost, and can be claimed once the running handler has ended."""
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
        """One command remains, at the later call's time."""
        provider.schedule_command(command("one"))
        with Host(provider, fails=True).busy():
            provider.schedule_command(command("one", 5))
        assert provider.process_commands(at(4), never) == 0
        assert provider.process_commands(at(5), Recorder()) == 1

    def test_a_killed_hosts_commands_come_back(self, hasty: PersistenceProvider) -> None:
        """When the lease runs out another host may have them, all that were not handled."""
        for number in range(3):
            hasty.schedule_command(command(str(number), number))
        handled = Recorder()
        with Host(hasty).busy():
            counts = 0
            while len(handled.seen) < 3:
                counts += eventually(lambda: hasty.process_commands(at(9), handled))
        assert counts == 3
        assert sorted(handled.data) == ["0", "1", "2"]

    def test_a_late_host_cannot_undo_its_successor(
        self, provider: PersistenceProvider, hasty: PersistenceProvider
    ) -> None:
        """A handler that returns after its lease neither removes nor sets free what another host has claimed."""
        hasty.schedule_command(command("one"))
        late, successor = Host(hasty), Host(provider, fails=True)
        with late.busy():
            eventually(lambda: hasty.process_commands(at(9), Recorder()))
            hasty.schedule_command(command("one", 1))
            with successor.busy():
                late.end()
                assert hasty.process_commands(at(9), never) == 0
        handled = Recorder()
        assert provider.process_commands(at(9), handled) == 1
        assert successor.handled.seen == handled.seen == [command("one", 1)]

    def test_a_late_host_leaves_a_new_occurrence(self, hasty: PersistenceProvider) -> None:
        """What was scheduled while nobody held the command any more is handled, by whoever comes."""
        hasty.schedule_command(command("one"))
        with Host(hasty).busy():
            eventually(lambda: hasty.process_commands(at(9), Recorder()))
            hasty.schedule_command(command("one"))
        handled = Recorder()
        assert hasty.process_commands(at(9), handled) == 1
        assert handled.seen == [command("one")]

    def test_scheduled_again_and_the_host_killed(self, hasty: PersistenceProvider) -> None:
        """The new occurrence can be claimed once the lease of the running handler has ended."""
        hasty.schedule_command(command("one"))
        handled = Recorder()
        with Host(hasty).busy():
            hasty.schedule_command(command("one", 1))
            assert eventually(lambda: hasty.process_commands(at(9), handled)) == 1
        assert handled.seen == [command("one", 1)]
        assert hasty.process_commands(at(9), never) == 0
