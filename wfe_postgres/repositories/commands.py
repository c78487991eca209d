"""Scheduled commands in PostgreSQL: leased, run without a lock, removed unless they were scheduled again."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from wfe_postgres.codec.encoding import command_record
from wfe_postgres.codec.fields import COMMAND_NAME
from wfe_postgres.codec.json_values import MAX_PAYLOAD_BYTES
from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.connections import Execute
from wfe_postgres.contract.errors import CorruptRowError, PersistenceError
from wfe_postgres.contract.models import ScheduledCommand
from wfe_postgres.contract.repositories import ScheduledCommandRepository
from wfe_postgres.orm import SCHEMA
from wfe_postgres.repositories.base import Repository, Source, logger
from wfe_postgres.statements import commands as statements

Handler = Callable[[ScheduledCommand], object]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A command that this host may run, until its lease is over."""

    number: int
    row_id: int
    row: tuple[str, str, int]

    @property
    def command(self) -> tuple[str, str]:
        """What identifies the command: its name and data."""
        return self.row[:2]

    @property
    def row_filter(self) -> dict[str, int]:
        """Parameters that match the row as long as it carries this claim."""
        return {"command_id": self.row_id, "claim": self.number}


class PostgresScheduledCommandRepository(Repository, ScheduledCommandRepository):
    """`ScheduledCommandRepository` on the table `scheduled_commands`.

    `command_lease`: seconds, by the server's clock, for which a command is leased to the host that runs it. A handler
    that takes longer may be run by a second host as well; the commands of a host that died can be claimed when their
    lease expires. Commands that are scheduled while `process_commands` runs are left for the next call. Outside of a
    caller's transaction no connection and no lock is held while a handler runs.
    """

    def __init__(
        self,
        source: Source,
        *,
        schema: str = SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        command_lease: float = 30.0,
    ) -> None:
        super().__init__(source, schema=schema, max_payload_bytes=max_payload_bytes)
        if not command_lease > 0:
            raise ValueError("command_lease is a number of seconds greater than 0")
        self._command_lease = command_lease

    @property
    def supports_scheduled_commands(self) -> bool:
        return True

    def schedule_command(self, command: ScheduledCommand) -> None:
        record = command_record(command)
        self._runner.write(lambda execute, _: execute(statements.SCHEDULE, record), command.data)

    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        due = milliseconds(as_of, "as_of")
        [(newest,)] = self._runner.read(statements.NEWEST, {})
        handled = 0
        kept: list[_Claim] = []
        failures: list[Exception] = []
        seen: set[tuple[str, str]] = set()
        still_there: list[int] = []
        try:
            while newest is not None and (claim := self._claim(due, newest, still_there)) is not None:
                kept.append(claim)
                still_there.append(claim.row_id)
                if claim.command in seen:  # scheduled again under a number that was drawn before the call began
                    continue
                seen.add(claim.command)
                if _is_handled(claim, handler, failures):
                    kept.pop()
                    if self._finish(claim):
                        still_there.pop()
                    handled += 1
        finally:
            self._release(kept)
        if failures:
            raise ExceptionGroup(f"{len(failures)} scheduled commands failed", failures)
        return handled

    def _claim(self, due: int, newest: int, still_there: Sequence[int]) -> _Claim | None:
        number = secrets.randbits(63)
        params = {
            "as_of": due,
            "newest": newest,
            "still_there": still_there,
            "claim": number,
            "lease": self._command_lease,
        }

        def attempt(execute: Execute, may_have_committed: bool) -> Sequence[Any]:
            claimed = may_have_committed and execute(statements.CLAIMED, {"claim": number})
            return claimed or execute(statements.CLAIM, params)

        rows = self._runner.write(attempt)
        if not rows:
            return None
        row_id, *row, taken_over, _ = rows[0]
        if taken_over:
            logger.warning("command %s was taken over from a host whose lease has expired", row_id)
        return _Claim(number, row_id, tuple(row))

    def _finish(self, claim: _Claim) -> bool:
        """Whether the row was removed; it stays if the command was scheduled again or taken over by another host."""

        def attempt(execute: Execute, _: bool) -> bool:
            removed = bool(execute(statements.FINISH, claim.row_filter))
            if not removed:
                _release_one(claim, execute)
            return removed

        return self._runner.write(attempt, str(claim.row_id))

    def _release(self, claims: Iterable[_Claim]) -> None:
        try:
            for claim in claims:
                self._runner.write(partial(_release_one, claim))
        except PersistenceError as failure:
            logger.warning(
                "claimed commands were not released, and can be claimed when their lease expires: %s",
                failure,
            )


def _is_handled(claim: _Claim, handler: Handler, failures: list[Exception]) -> bool:
    """Call the handler; what it raises is added to the failures."""
    try:
        command = _command_of(claim)
    except CorruptRowError as failure:
        logger.error("a scheduled command is left in place: %s", failure)
        return False
    try:
        handler(command)
    except Exception as failure:
        failures.append(failure)
        return False
    return True


def _release_one(claim: _Claim, execute: Execute, _: bool = False) -> None:
    execute(statements.RELEASE, claim.row_filter)


def _command_of(claim: _Claim) -> ScheduledCommand:
    command_name, data, execute_time = claim.row
    if name := COMMAND_NAME.get(command_name):
        return ScheduledCommand(name, data, execute_time)
    raise CorruptRowError("scheduled_commands", str(claim.row_id), "command_name")
