"""Scheduled commands in PostgreSQL: claimed by lease, run without a lock, removed if nobody asked again."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import sessionmaker

from wfe_postgres.checks import milliseconds
from wfe_postgres.contract.errors import CorruptRowError, PersistenceError
from wfe_postgres.contract.interfaces import ScheduledCommandRepository
from wfe_postgres.contract.models import ScheduledCommand
from wfe_postgres.mapping import command_from_row, command_to_record
from wfe_postgres.payloads import MAX_PAYLOAD_BYTES
from wfe_postgres.repositories.base import Repository
from wfe_postgres.rows import SCHEMA
from wfe_postgres.sessions import Calls, Execute, Place
from wfe_postgres.statements import commands as statements

logger: logging.Logger = logging.getLogger("wfe_postgres")

Handler = Callable[[ScheduledCommand], object]


@dataclass(frozen=True, slots=True)
class _Claim:
    """A command that this host may run, until its lease is over."""

    number: int
    row_id: int
    row: tuple[str, str, int]


class PostgresScheduledCommandRepository(Repository, ScheduledCommandRepository):
    """`ScheduledCommandRepository` on the table `scheduled_commands`.

    `command_lease`: for how many seconds, by the server's clock, a command belongs to the host that runs it. A
    handler that takes longer may be run by a second host as well; a host that died is waited for that long.
    """

    def __init__(
        self,
        place: Place | sessionmaker[Any] | Calls,
        *,
        schema: str = SCHEMA,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
        command_lease: float = 30.0,
    ) -> None:
        super().__init__(place, schema=schema, max_payload_bytes=max_payload_bytes)
        if not command_lease > 0:
            raise ValueError("command_lease is a number of seconds greater than 0")
        self._command_lease = command_lease

    @property
    def supports_scheduled_commands(self) -> bool:
        """True."""
        return True

    def schedule_command(self, command: ScheduledCommand) -> None:
        """See `ScheduledCommandRepository`."""
        record = command_to_record(command)
        self._calls.write(lambda execute, _: execute(statements.SCHEDULE, record), command.data)

    def process_commands(self, as_of: datetime, handler: Handler) -> int:
        """See `ScheduledCommandRepository`.

        Commands that are scheduled while the call runs are left for the next call. Outside of a caller's transaction
        no connection and no lock is held while a handler runs.
        """
        due = milliseconds(as_of, "as_of")
        [(newest,)] = self._calls.read(statements.NEWEST, {})
        handled = 0
        kept: list[_Claim] = []
        failures: list[Exception] = []
        seen: list[int] = []
        try:
            while newest is not None and (claim := self._claim(due, newest, seen)) is not None:
                seen.append(claim.row_id)
                kept.append(claim)
                try:
                    handler(_command_of(claim))
                except CorruptRowError as failure:
                    logger.error("a scheduled command is left in place: %s", failure)
                except Exception as failure:
                    failures.append(failure)
                else:
                    kept.remove(claim)
                    self._finish(claim)
                    handled += 1
        finally:
            self._release(kept)
        if failures:
            raise ExceptionGroup(f"{len(failures)} scheduled commands failed", failures)
        return handled

    def _claim(self, due: int, newest: int, seen: Sequence[int]) -> _Claim | None:
        number = secrets.randbits(63)
        given = {"as_of": due, "newest": newest, "seen": seen, "claim": number, "lease": self._command_lease}

        def attempt(execute: Execute, again: bool) -> Sequence[Any]:
            return (again and execute(statements.CLAIMED, {"claim": number})) or execute(statements.CLAIM, given)

        rows = self._calls.write(attempt)
        if not rows:
            return None
        row_id, *row = rows[0]
        return _Claim(number, row_id, tuple(row))

    def _finish(self, claim: _Claim) -> None:
        given = {"command_id": claim.row_id, "claim": claim.number}

        def attempt(execute: Execute, _: bool) -> None:
            if not execute(statements.FINISH, given):
                execute(statements.RELEASE, _released([claim]))

        self._calls.write(attempt, str(claim.row_id))

    def _release(self, claims: Sequence[_Claim]) -> None:
        if not claims:
            return
        try:
            self._calls.write(lambda execute, _: execute(statements.RELEASE, _released(claims)))
        except PersistenceError as failure:
            logger.warning("%d claimed commands come back when their lease runs out: %s", len(claims), failure)


def _command_of(claim: _Claim) -> ScheduledCommand:
    try:
        return command_from_row(*claim.row)
    except KeyError:
        blamed = CorruptRowError("scheduled_commands", str(claim.row_id), "command_name")
    raise blamed


def _released(claims: Sequence[_Claim]) -> dict[str, Any]:
    return {
        "command_ids": [claim.row_id for claim in claims],
        "claims": [claim.number for claim in claims],
    }
