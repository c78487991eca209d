"""The changes that the mutants make to the library.

Each change is made to the modules of the process that imports it. Most replace a method or a function; the others
change the SQL text of statements.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partialmethod
from typing import Any

import psycopg
from sqlalchemy import Engine, delete, event, select, text

from wfe_postgres import (
    EventSubscription,
    PersistenceProvider,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
)
from wfe_postgres.codec.validation import milliseconds
from wfe_postgres.connections import (
    Execute,
    PooledRunner,
    checkout,
    execution,
    failures,
    lean,
    lease,
    pooled,
    runners,
)
from wfe_postgres.connections.failures import Kind
from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.host import executor, saving, waits
from wfe_postgres.host.changes import Changes
from wfe_postgres.repositories.guarded_writes import write_guarded
from wfe_postgres.repositories.workflows import _instance_of
from wfe_postgres.statements import workflows as statements
from wfe_postgres.statements.expressions import text_parameter
from wfe_postgres.statements.tables import pointers, workflows

Provider = PostgresPersistenceProvider
Handler = Callable[[ScheduledCommand], object]


def change_statements(pattern: str, replacement: Callable[[], str]) -> Callable[[], None]:
    """Replace a pattern in the SQL text of every compiled statement."""

    def install() -> None:
        original = execution.compiled

        def compiled(statement: Any) -> tuple[list[str], dict[str, Any]]:
            parts, constants = original(statement)
            sql = re.sub(pattern, replacement(), execution.ANY_SCHEMA.join(parts))
            return sql.split(execution.ANY_SCHEMA), constants

        replace(execution, "compiled", compiled)()

    return install


def change_migrations(old: str, new: str) -> Callable[[], None]:
    """Replace a string in every statement of the migrations."""

    def change(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
        return statement.replace(old, new), parameters

    return lambda: event.listen(Engine, "before_cursor_execute", change, retval=True)


def replace(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    """Replace a method of a class, or a name in a module."""
    return lambda: setattr(owner, name, replacement)


# Saves ----------------------------------------------------------------------------------------------------

_parent = select(workflows.c.id).where(workflows.c.id == text_parameter("workflow_id")).cte("saved")
_POINTERS = select(_parent.c.id).add_cte(statements._insert_pointers(_parent))
_REMOVE = delete(pointers).where(
    pointers.c.workflow_id == text_parameter("workflow_id"),
    statements._is_any(pointers.c.id, "removed"),
)


def save_pointers_first(statement: Any, params: dict[str, Any], execute: Execute, retried: bool) -> None:
    """Write the pointers before the revision of the workflow is checked."""
    execute(_POINTERS, params)
    write_guarded(statement, params, execute, retried)


def save_in_several_transactions(statement: Any, params: dict[str, Any], execute: Execute, retried: bool) -> None:
    """Write the workflow, then the pointers, then delete removed pointers, each in its own transaction."""
    write_guarded(statement, params | {"pointers": "[]", "removed": []}, execute, retried)
    execute(_POINTERS, params)
    execute(_REMOVE, params)


def load_in_two_statements(self: Provider, statement: Any, parameter: str, value: str) -> WorkflowInstance:
    """Load the workflow with one statement, and its pointers with another."""
    [workflow], *_ = self._runner.read(statement, {parameter: value})
    _, *pointers = self._runner.read(statement, {parameter: value})
    return _instance_of([workflow, *(json_row for (json_row,) in pointers)])


# Tokens ---------------------------------------------------------------------------------------------------


def set_token_after_read(self: Provider, id: str, token: str, worker_id: str, expiry: datetime) -> bool:
    """Check in a separate read whether the subscription is open, then set the token."""
    found: EventSubscription = self.get_subscription(id)
    held_until = found.external_token_expiry
    if found.external_token not in (None, token) and (held_until is None or held_until > datetime.now(UTC)):
        return False
    take = text(
        f"UPDATE {self._schema}.event_subscriptions SET external_token = :token, external_worker_id = :worker,"
        " external_token_expiry = CAST(:expiry AS timestamptz) WHERE id = :id"
    )
    params = {"token": token, "worker": worker_id, "expiry": expiry.isoformat(), "id": id}
    self._runner.write(lambda execute, _: execute(take, params), id)
    return True


# Commands -------------------------------------------------------------------------------------------------


def delete_all_due_commands(self: Provider, as_of: datetime, handler: Handler) -> int:
    """Read the due commands, handle them, then delete all due commands."""
    params = {"as_of": milliseconds(as_of, "as_of")}
    due = f"{self._schema}.scheduled_commands WHERE execute_time <= :as_of"
    rows = self._runner.read(text(f"SELECT command_name, data, execute_time FROM {due} ORDER BY execute_time"), params)
    for row in rows:
        handler(ScheduledCommand(*row))
    self._runner.write(lambda execute, _: execute(text(f"DELETE FROM {due}"), params))
    return len(rows)


_process_commands = Provider.process_commands


def handle_in_open_transaction(self: Provider, as_of: datetime, handler: Handler) -> int:
    """Run the handlers while the transaction of the claims is open."""
    with self.transaction() as joined:
        return _process_commands(joined, as_of, handler)


# Failures -------------------------------------------------------------------------------------------------

_kind = failures._kind
_refused = failures._refused
_try = PooledRunner._try


def classify_operational_as_transient(error: BaseException, state: str | None) -> Kind:
    """Classify errors by the class of the exception."""
    operational = isinstance(getattr(error, "orig", error), psycopg.OperationalError)
    return Kind.ROLLED_BACK if operational else _kind(error, state)


def retry_operational_errors() -> None:
    """Retry every OperationalError, with a retry budget that is short enough for a test."""
    replace(failures, "_kind", classify_operational_as_transient)()
    replace(Provider, "__init__", partialmethod(Provider.__init__, retry_budget=2.0))()


def quote_driver_message(
    driver: BaseException, state: str | None, kind: Kind, error: BaseException
) -> PersistenceError:
    """Include the message of the driver in the error."""
    redacted = _refused(driver, state, kind, error)
    return PersistenceError(
        str(driver), redacted.sqlstate, redacted.constraint, retryable=redacted.retryable, original=driver
    )


def retry_without_check(
    self: PooledRunner, attempt: Any, transaction: bool, deadline: float, is_write: bool, _: bool
) -> Any:
    """Retry a write whose answer was lost like any other, without checking whether it was committed."""
    return _try(self, attempt, transaction, deadline, is_write, False)


def believe_written(execute: Execute, id: str, expected: int, new: int) -> bool:
    """Assume that a save was committed, without comparing the stored revision."""
    return True


_init = Provider.__init__


def ignore_connect_args(self: Provider, url: Any, **options: Any) -> None:
    """Ignore `connect_args`, so that psycopg prepares statements with its default threshold."""
    options.pop("connect_args", None)
    _init(self, url, **options)


def ignore_fork() -> None:
    """Let a child process use the connections of its parent."""
    replace(checkout, "reset_pool_after_fork", lambda _: None)()


def reset_pools_in_fork_hook_only() -> None:
    """Reset inherited pools only in Python's fork hook, which a fork by C code does not run."""
    reset = checkout.reset_pool_after_fork
    replace(checkout, "reset_pool_after_fork", lambda engine: checkout._owners.setdefault(engine, os.getpid()))()
    os.register_at_fork(after_in_child=lambda: [reset(engine) for engine in list(checkout._owners)])


def believe_unconfirmed_commits() -> None:
    """Report a commit as successful even if its wait for the standby was cut short."""
    for module in (pooled, runners):
        replace(module, "require_confirmed", lambda *_: None)()


def allow_pipeline_mode() -> None:
    """Do not reject connections in pipeline mode."""
    for module in (lean, lease, runners):
        replace(module, "require_ready", lambda _: None)()


def host_time() -> str:
    """The time of this host, as an SQL literal."""
    return f"'{datetime.now(UTC).isoformat()}'::timestamptz"


# The host ---------------------------------------------------------------------------------------------------

_store = saving.store


def save_over_others(provider: PersistenceProvider, instance: WorkflowInstance, changes: Changes) -> None:
    """Save whatever the revision in the store is."""
    instance.revision = None
    _store(provider, instance, changes)


def forget_events() -> None:
    """A pointer is given events that it, or one before it, has had."""
    for module in (executor, waits):
        setattr(module, "received_before", lambda *_: set())  # noqa: B010 - the name is imported there
