"""The provider and the host on the database that the alias names now, which in a test is the test database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.transaction import TransactionManagementError

from wfe_postgres.ext.django import conf
from wfe_postgres.ext.django.engines import make_provider
from wfe_postgres.ext.django.steps import run_without_transaction, step_transactions
from wfe_postgres.host import WorkflowClient, WorkflowDefinition, WorkflowHost
from wfe_postgres.provider import PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.services import PostgresQueueProvider


@dataclass(frozen=True)
class Workflows:
    """What the project has of the app: the setting, a provider, and a host on it."""

    options: conf.Options
    provider: PostgresPersistenceProvider
    host: WorkflowHost


_workflows: dict[tuple[conf.Options, tuple[Any, ...]], Workflows] = {}
"""By the setting, and the address of the database."""
_in_test: WorkflowHost | None = None


def provider() -> PostgresRepositories:
    """The store in the alias's database, on connections of its own: each call is a transaction.

    In a `TestCase` with `WorkflowTestMixin` it works in the test's transaction.
    """
    return workflows().provider if _in_test is None else _in_test.provider  # type: ignore[return-value]


def host() -> WorkflowHost:
    """The host with the definitions of the setting `WFE`, on `provider()`.

    It is not started: a view starts workflows by it, and `manage.py wfe_work` runs them.
    """
    return workflows().host if _in_test is None else _in_test


def using() -> WorkflowClient:
    """The verbs of the host inside the open transaction of Django's connection, which commits them or rolls them back.

    Raises `TransactionManagementError` outside `atomic()`: there is no transaction then, and each statement would be
    committed by itself. There, `host()` has the same verbs, each in a transaction of its own.
    """
    current = workflows()
    alias = current.options.database
    connection = connections[alias]
    if connection.get_autocommit():  # connects, if need be
        raise TransactionManagementError(
            f"using() is called outside transaction.atomic() of the database {alias!r}, so there is no transaction for "
            "the workflow to be part of: call it inside, or call host(), whose verbs have a transaction each"
        )
    connection.validate_no_broken_transaction()
    if _in_test is not None and _in_test.provider is not current.provider:
        return _in_test  # it is in the transaction of a `TestCase`, as this connection
    return (_in_test or current.host).using(connection.connection)


def workflows() -> Workflows:
    """The provider and the host; made anew, and the former closed, when the alias names another database."""
    options = conf.read()
    settings = connections[options.database].settings_dict
    key = options, tuple(settings[name] for name in ("NAME", "USER", "HOST", "PORT"))
    found = _workflows.get(key)
    if found is None:
        for former in list(_workflows):
            if former != key and (other := _workflows.pop(former, None)) is not None:
                other.provider.close()
        store = make_provider(options)
        # The first of several threads, without a lock that a fork could leave locked: neither has connected yet.
        found = _workflows.setdefault(key, Workflows(options, store, make_host(options, store, store)))
    return found


def make_host(
    options: conf.Options, store: PostgresRepositories, owner: PostgresPersistenceProvider, **keywords: Any
) -> WorkflowHost:
    """A host with the definitions of the setting, whose steps are run inside `atomic()`."""
    queue = PostgresQueueProvider.from_engine(owner.engine, schema=options.schema) if options.queue else None
    return WorkflowHost(
        store,
        conf.load(options.definitions, WorkflowDefinition),
        **{
            "transaction": step_transactions(options.database, owner.using),
            "middleware": [run_without_transaction, *conf.load(options.middleware, object)],
            "queue": queue,
            **options.host,
            **keywords,
        },
    )


@contextmanager
def replaced(make: Callable[[Workflows], WorkflowHost]) -> Iterator[WorkflowHost]:
    """Another host in its place, for the time of a test."""
    global _in_test
    before, _in_test = _in_test, make(workflows())
    try:
        yield _in_test
    finally:
        _in_test = before


def in_atomic_block() -> bool:
    """Whether Django's connection is inside `atomic()`."""
    return bool(connections[conf.read().database].in_atomic_block)


def joined() -> PostgresRepositories:
    """The store by Django's own connection, whether a transaction is open or not."""
    connection = connections[workflows().options.database]
    connection.ensure_connection()
    return workflows().provider.using(connection.connection)
