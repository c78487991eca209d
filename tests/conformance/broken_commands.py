"""Broken providers: wrong behavior of scheduled commands, errors or the store."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.contract.models import ExecutionError, ScheduledCommand
from wfe_postgres.testing import InMemoryPersistenceProvider

Handler = Callable[[ScheduledCommand], object]


class Commands(InMemoryPersistenceProvider):
    """Access to the stored commands for the broken providers below."""

    @property
    def commands(self) -> list[ScheduledCommand]:
        return [entry.command for entry in self._store.commands.values()]

    def remove(self, command: ScheduledCommand) -> None:
        self._store.commands.pop((command.command_name, command.data), None)

    def due(self, as_of: datetime) -> list[ScheduledCommand]:
        timestamp = milliseconds(as_of, "as_of")
        return sorted((it for it in self.commands if it.execute_time <= timestamp), key=lambda it: it.execute_time)


class AllDueDeleted(Commands):
    """Handles all due commands, then deletes all due commands."""

    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        due = self.due(as_of)
        for it in due:
            handler(it)
        for it in self.due(as_of):
            self.remove(it)
        return len(due)


class DeletedByKey(Commands):
    """Deletes a claimed command even if it was rescheduled."""

    def schedule_command(self, command: ScheduledCommand) -> None:
        super().schedule_command(command)
        self._store.commands[command.command_name, command.data].rescheduled = False


class NothingClaimed(Commands):
    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        due = self.due(as_of)
        for it in due:
            handler(it)
            self.remove(it)
        return len(due)


class RemovedBeforehand(Commands):
    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        due = self.due(as_of)
        for it in due:
            self.remove(it)
        for it in due:
            handler(it)
        return len(due)


class FailureEndsTheRun(Commands):
    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        failures: list[Exception] = []

        def once(command: ScheduledCommand) -> None:
            if failures:
                raise failures[0]
            try:
                handler(command)
            except Exception as failure:
                failures.append(failure)
                raise

        return super().process_commands(as_of, once)


class FailuresRetriedImmediately(Commands):
    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        try:
            return super().process_commands(as_of, handler)
        except ExceptionGroup:
            return super().process_commands(as_of, handler)


class FirstDueTimeKept(Commands):
    def schedule_command(self, command: ScheduledCommand) -> None:
        if (command.command_name, command.data) not in self._store.commands:
            super().schedule_command(command)


class LateHostNotRejected(Commands):
    def _claimed(self, claim: Any) -> Any:
        return self._store.commands.get(claim.key)


class ErrorsMadeUnique(Commands):
    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        super().persist_errors([it for index, it in enumerate(errors) if it not in errors[:index]])


class StoreRecreated(Commands):
    def ensure_store_exists(self) -> None:
        self._store.workflows.clear()
