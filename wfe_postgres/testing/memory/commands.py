"""Scheduled commands in memory: claimed with a lease, handled without the lock, removed unless rescheduled."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from wfe_postgres.codec.encoding import command_record
from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.contract.models import ScheduledCommand
from wfe_postgres.contract.repositories import ScheduledCommandRepository
from wfe_postgres.testing.memory.store import CommandEntry, InMemoryPart, kept


@dataclass(frozen=True)
class _Claim:
    """A claimed command; other hosts may claim it after the lease expires."""

    number: int
    key: tuple[str, str]
    command: ScheduledCommand


class InMemoryCommands(InMemoryPart, ScheduledCommandRepository):
    """`ScheduledCommandRepository` on a `Store`."""

    @property
    def supports_scheduled_commands(self) -> bool:
        """True."""
        return True

    def schedule_command(self, command: ScheduledCommand) -> None:
        """See `ScheduledCommandRepository`."""
        command_record(command)
        new = kept(command)
        with self._store.lock:
            entry = self._store.commands.setdefault((new.command_name, new.data), CommandEntry(new))
            entry.command, entry.rescheduled = new, True

    def process_commands(self, as_of: datetime, handler: Callable[[ScheduledCommand], object]) -> int:
        """See `ScheduledCommandRepository`."""
        due = milliseconds(as_of, "as_of")
        handled: list[_Claim] = []
        failed: list[_Claim] = []
        failures: list[Exception] = []
        claim = None
        try:
            while claim := self._claim(due, [*handled, *failed]):
                try:
                    handler(claim.command)
                except Exception as failure:
                    failures.append(failure)
                    failed.append(claim)
                else:
                    self._finish(claim)
                    handled.append(claim)
        finally:
            self._release([*failed, claim] if claim else failed)
        if failures:
            raise ExceptionGroup(f"{len(failures)} scheduled commands failed", failures)
        return len(handled)

    def _claim(self, due: int, finished: Iterable[_Claim]) -> _Claim | None:
        excluded = {claim.key for claim in finished}
        with self._store.lock:
            free = [
                (entry.command.execute_time, key)
                for key, entry in self._store.commands.items()
                if entry.command.execute_time <= due and key not in excluded and self._is_free(entry)
            ]
            if not free:
                return None
            _, key = min(free)
            entry = self._store.commands[key]
            entry.claim = secrets.randbits(63)
            entry.claimed_until = self._clock() + self._lease
            entry.rescheduled = False
            return _Claim(entry.claim, key, kept(entry.command))

    def _is_free(self, entry: CommandEntry) -> bool:
        return entry.claimed_until is None or entry.claimed_until <= self._clock()

    def _finish(self, claim: _Claim) -> None:
        with self._store.lock:
            entry = self._claimed(claim)
            if entry and not entry.rescheduled:
                del self._store.commands[claim.key]
            self._release([claim])

    def _release(self, claims: Iterable[_Claim]) -> None:
        with self._store.lock:
            for claim in claims:
                if entry := self._claimed(claim):
                    entry.claim = entry.claimed_until = None

    def _claimed(self, claim: _Claim) -> CommandEntry | None:
        entry = self._store.commands.get(claim.key)
        return entry if entry and entry.claim == claim.number else None
