"""The transactions of Django in which a host runs its steps."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import connections, transaction

from wfe_postgres.host import ExecutionResult, StepContext
from wfe_postgres.host.definitions import StepFunction
from wfe_postgres.provider import PostgresRepositories

StepTransactions = Callable[[], AbstractContextManager[tuple[PostgresRepositories, Any]]]
"""What `WorkflowHost(transaction=...)` takes."""


def step_transactions(alias: str, using: Callable[[Any], PostgresRepositories]) -> StepTransactions:
    """`atomic()` around each step: what it writes by the ORM is committed with its result, or not at all.

    `context.session` is Django's connection. ValueError, at the first step: it is not READ COMMITTED.
    """
    is_checked = False

    @contextmanager
    def begin() -> Iterator[tuple[PostgresRepositories, Any]]:
        nonlocal is_checked
        with _as_in_a_request(), transaction.atomic(using=alias):
            connection = connections[alias]
            if not is_checked:
                _require_read_committed(connection)
                is_checked = True
            yield using(connection.connection), connection

    return begin


def run_without_transaction(context: StepContext, call_next: StepFunction) -> ExecutionResult | None:
    """Middleware: a step with `transaction=False` has Django's connections as a view has."""
    if context.session is not None:
        return call_next(context)
    with _as_in_a_request():
        return call_next(context)


@contextmanager
def _as_in_a_request() -> Iterator[None]:
    """With CONN_MAX_AGE = 0, or a pool, a thread at rest holds no connection; one that has failed is not used again."""
    _close_old_connections()
    try:
        yield
    finally:
        _close_old_connections()


def _close_old_connections() -> None:
    """As Django's function, but for those in a transaction, as that of a `TestCase`: Django's closes them, too."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def _require_read_committed(connection: Any) -> None:
    """In a snapshot that is older than the renewal of a lease, every save of a long step would be refused."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT upper(current_setting('transaction_isolation'))")
        [level] = cursor.fetchone()
    if level != "READ COMMITTED":
        raise ValueError(f"the transaction of a step must be READ COMMITTED, not {level}: OPTIONS of the database")
