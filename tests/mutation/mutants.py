"""The library, broken in the ways in which such libraries are known to be broken, and the tests that must notice.

A mutant changes the modules in the process that imports it. Most replace one method; those that are a matter of a
statement change its compiled text.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, partialmethod
from typing import Any

from sqlalchemy import Engine, delete, event, select, text
from sqlalchemy.exc import DBAPIError

from wfe_postgres import (
    EventSubscription,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
)
from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.connections import Execute, PooledRunner, checkout, execution, failures
from wfe_postgres.connections.failures import Kind
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.repositories import workflows as workflow_repository
from wfe_postgres.repositories.workflows import _instance_of, _save_guarded
from wfe_postgres.statements import workflows as statements
from wfe_postgres.statements.expressions import text_parameter

Provider = PostgresPersistenceProvider
Handler = Callable[[ScheduledCommand], object]


@dataclass(frozen=True)
class Mutant:
    """One way to be broken."""

    name: str
    what: str
    install: Callable[[], None]
    tests: Sequence[str]
    """Names of tests, as pytest has them: the first of them that fails has noticed the mutant."""


def statement_changed(pattern: str, by: Callable[[], str]) -> Callable[[], None]:
    """Every statement's text is changed before it is sent."""

    def install() -> None:
        whole = execution.compiled

        def compiled(statement: Any, schema: str) -> tuple[str, dict[str, Any]]:
            sql, constants = whole(statement, schema)
            return re.sub(pattern, by(), sql), constants

        execution.compiled = compiled  # type: ignore[assignment]

    return install


def migrations_changed(old: str, new: str) -> Callable[[], None]:
    """The same for what the migrations send."""

    def change(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace(old, new), parameters

    return lambda: event.listen(Engine, "before_cursor_execute", change, retval=True)


def replaced(owner: Any, name: str, by: Any) -> Callable[[], None]:
    """A method, or a module's function, is another."""
    return lambda: setattr(owner, name, by)


# Saves ----------------------------------------------------------------------------------------------------

_parent = (
    select(statements.workflows.c.id).where(statements.workflows.c.id == text_parameter("workflow_id")).cte("saved")
)
_POINTERS = select(_parent.c.id).add_cte(statements._insert_pointers(_parent))
_REMOVE = delete(statements.pointers).where(
    statements.pointers.c.workflow_id == text_parameter("workflow_id"),
    statements._is_any(statements.pointers.c.id, "removed"),
)


def pointers_first(self: Provider, statement: Any, params: dict[str, Any]) -> None:
    """The pointers are written before it is known whether the parent may be."""
    self._runner.write(lambda execute, _: execute(_POINTERS, params), params["workflow_id"])
    self._runner.write(partial(_save_guarded, statement, params), params["workflow_id"])


def in_several_statements(self: Provider, statement: Any, params: dict[str, Any]) -> None:
    """The parent, then the pointers, then what is gone: each committed by itself."""
    id = params["workflow_id"]
    self._runner.write(partial(_save_guarded, statement, params | {"pointers": "[]", "removed": []}), id)
    self._runner.write(lambda execute, _: execute(_POINTERS, params), id)
    self._runner.write(lambda execute, _: execute(_REMOVE, params), id)


def in_two_selects(self: Provider, statement: Any, parameter: str, value: str) -> WorkflowInstance:
    """The workflow by one statement, its pointers by another."""
    [(id, document, _)] = self._runner.read(statement, {parameter: value})
    [(_, _, pointers)] = self._runner.read(statement, {parameter: value})
    return _instance_of((id, document, pointers))


# Tokens ---------------------------------------------------------------------------------------------------


def read_then_write(self: Provider, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
    """Look whether it is open, then write."""
    found: EventSubscription = self.get_subscription(id)
    held_until = found.external_token_expiry
    if found.external_token not in (None, token) and (held_until is None or held_until > datetime.now(UTC)):
        return False
    take = text(
        f"UPDATE {self._schema}.event_subscriptions SET external_token = :token, external_worker_id = :worker,"
        " external_token_expiry = CAST(:expiry AS timestamptz) WHERE id = :id"
    )
    given = {"token": token, "worker": worker_id, "expiry": expiry.isoformat(), "id": id}
    self._runner.write(lambda execute, _: execute(take, given), id)
    return True


# Commands -------------------------------------------------------------------------------------------------


def delete_all_due(self: Provider, as_of: datetime, handler: Handler) -> int:
    """Read what is due, handle it, then delete what is due."""
    given = {"as_of": milliseconds(as_of, "as_of")}
    due = f"{self._schema}.scheduled_commands WHERE execute_time <= :as_of"
    rows = self._runner.read(text(f"SELECT command_name, data, execute_time FROM {due} ORDER BY execute_time"), given)
    for row in rows:
        handler(ScheduledCommand(*row))
    self._runner.write(lambda execute, _: execute(text(f"DELETE FROM {due}"), given))
    return len(rows)


_process_commands = Provider.process_commands


def in_an_open_transaction(self: Provider, as_of: datetime, handler: Handler) -> int:
    """The handlers run while the claims' transaction is open."""
    with self.transaction() as joined:
        return _process_commands(joined, as_of, handler)


# Failures -------------------------------------------------------------------------------------------------

_kind = failures._kind
_refused = failures._refused
_try = PooledRunner._try


def operational_is_passing(error: BaseException, state: str | None, sent: bool) -> Kind:
    """Judge by the exception's class."""
    operational = isinstance(error, DBAPIError) and type(error).__name__ == "OperationalError"
    return Kind.ROLLED_BACK if operational else _kind(error, state, sent)


def judging_by_class() -> None:
    """Every OperationalError is tried again, for a time that a test can wait for."""
    replaced(failures, "_kind", operational_is_passing)()
    replaced(Provider, "__init__", partialmethod(Provider.__init__, retry_budget=2.0))()


def quoting(error: BaseException, state: str | None, kind: Kind) -> PersistenceError:
    """Say what the driver said."""
    ours = _refused(error, state, kind)
    driver = error.orig if isinstance(error, DBAPIError) else error
    return PersistenceError(str(driver), ours.sqlstate, ours.constraint, retryable=ours.retryable, original=driver)


def blindly(self: PooledRunner, attempt: Any, _: bool, *arguments: Any, **keywords: Any) -> Any:
    """Never look whether the first try took place."""
    return _try(self, attempt, False, *arguments, **keywords)


def always_written(execute: Execute, id: str, expected: int, new: int) -> bool:
    """Believe something else than the row's own stamp."""
    return True


_init = Provider.__init__


def without_threshold(self: Provider, url: Any, **options: Any) -> None:
    """Prepare as psycopg does by itself, whatever is asked for."""
    options.pop("connect_args", None)
    _init(self, url, **options)


def unnoticed_fork() -> None:
    """A child goes on with its parent's connections."""
    replaced(checkout, "reset_pool_after_fork", lambda _: None)()


def hosts_time() -> str:
    """What this host's clock says, as it stands in a statement."""
    return f"'{datetime.now(UTC).isoformat()}'::timestamptz"


def _named(mutants: Iterable[Mutant]) -> dict[str, Mutant]:
    return {mutant.name: mutant for mutant in mutants}


MUTANTS = _named(
    [
        Mutant(
            "M-a",
            "pointers are written before the parent",
            replaced(Provider, "_save", pointers_first),
            ["tests/conformance/test_postgres.py::TestPostgres::test_who_comes_second_is_refused"],
        ),
        Mutant(
            "M-b",
            "a save does not look at the stamp",
            statement_changed(r"AND \w+\.workflows\.revision = %\(expected_revision\)s::BIGINT", lambda: ""),
            ["tests/concurrency/test_lost_updates.py::test_concurrent_saves_by_threads_lose_no_update"],
        ),
        Mutant(
            "M-c",
            "a token is read, then written",
            replaced(Provider, "set_subscription_token", read_then_write),
            ["tests/concurrency/test_tokens.py::test_token_requested_by_many_threads_is_set_once"],
        ),
        Mutant(
            "M-d",
            "all due commands are deleted at the end",
            replaced(Provider, "process_commands", delete_all_due),
            ["tests/concurrency/test_commands_shared.py::test_every_occurrence_is_handled_once"],
        ),
        Mutant(
            "M-e",
            "a save is several transactions",
            replaced(Provider, "_save", in_several_statements),
            ["tests/concurrency/test_atomic_saves.py::test_save_killed_halfway_is_atomic"],
        ),
        Mutant(
            "M-f",
            "migrations run without the lock",
            migrations_changed("SELECT pg_try_advisory_xact_lock(", "SELECT true OR 0 < ("),
            ["tests/migrations/test_upgrades_at_once.py::test_eight_concurrent_processes_upgrade_once[None]"],
        ),
        Mutant(
            "M-g",
            "every OperationalError is tried again",
            judging_by_class,
            ["tests/faults/test_permanent_errors.py::test_a_refused_statement_is_sent_once[a statement timeout]"],
        ),
        Mutant(
            "M-h",
            "errors say what the driver said",
            replaced(failures, "_refused", quoting),
            ["tests/provider/test_canaries.py::test_what_the_database_quotes_is_not_repeated"],
        ),
        Mutant(
            "M-i",
            "migrations lock for the session",
            migrations_changed("pg_try_advisory_xact_lock", "pg_try_advisory_lock"),
            ["tests/faults/test_pgbouncer.py::test_hosts_boot_at_once"],
        ),
        Mutant(
            "M-j",
            "statements are prepared behind PgBouncer",
            replaced(Provider, "__init__", without_threshold),
            ["tests/faults/test_pgbouncer.py::test_a_token_has_one_holder"],
        ),
        Mutant(
            "M-k",
            "a load is two statements",
            replaced(Provider, "_get", in_two_selects),
            ["tests/concurrency/test_torn_reads.py::test_load_during_concurrent_saves_returns_one_save[read committed]"],
        ),
        Mutant(
            "M-l",
            "a command is deleted by its id alone",
            statement_changed(
                r"AND \w+\.\w+\.claim = %\(claim\)s::BIGINT AND NOT \w+\.\w+\.rescheduled",
                lambda: "",
            ),
            ["tests/concurrency/test_command_handlers.py::test_handler_rescheduling_its_own_command_runs_each_occurrence"],
        ),
        Mutant(
            "M-m",
            "handlers run in an open transaction",
            replaced(Provider, "process_commands", in_an_open_transaction),
            ["tests/concurrency/test_command_handlers.py::test_no_transaction_is_open_while_a_handler_runs"],
        ),
        Mutant(
            "M-n",
            "leases are judged by the host's clock",
            statement_changed(r"(?<=<= )pg_catalog\.clock_timestamp\(\)", hosts_time),
            [
                "tests/faults/test_clock_skew.py::test_a_token_is_held_for_its_time",
                "tests/faults/test_clock_skew.py::test_a_command_is_leased_for_its_time",
            ],
        ),
        Mutant(
            "M-o",
            "a fork goes unnoticed",
            unnoticed_fork,
            ["tests/provider/test_threads_and_forks.py::test_a_fork"],
        ),
        Mutant(
            "M-p",
            "a write whose answer was lost is just made again",
            replaced(PooledRunner, "_try", blindly),
            ["tests/protocol/test_lost.py::test_call_with_lost_request_or_answer_takes_effect_once"],
        ),
        Mutant(
            "M-q",
            "a save whose answer was lost is believed written",
            replaced(workflow_repository, "_was_committed", always_written),
            ["tests/protocol/test_lost.py::test_call_with_lost_request_or_answer_takes_effect_once"],
        ),
    ]
)
