"""The persistence interfaces of the WFE engine in Python: the repositories, and the provider that unites them."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from wfe_postgres.contract.models import ExecutionError
from wfe_postgres.contract.repositories import (
    EventRepository,
    ScheduledCommandRepository,
    SubscriptionRepository,
    WorkflowRepository,
)


class PersistenceProvider(
    WorkflowRepository, EventRepository, SubscriptionRepository, ScheduledCommandRepository, Protocol
):
    """Everything a workflow host needs of a store."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager["PersistenceProvider"]:
        """The repositories, all calls of which are one transaction: `with provider.transaction() as tx:`.

        It is committed at the end of the block and rolled back when the block raises. Inside another one it is a
        savepoint.
        """

    @abstractmethod
    def persist_errors(self, errors: Sequence[ExecutionError]) -> None:
        """Store the errors, all of them or none."""

    @abstractmethod
    def ensure_store_exists(self) -> None:
        """Create the store or upgrade it; any number of times, from any number of processes at once.

        Raises `StoreNotReadyError` when the store is newer than this library.
        """


class TransactionalProvider(PersistenceProvider, Protocol):
    """A provider that can work inside a transaction of the application's own."""

    @abstractmethod
    def using(self, session_or_connection: Any, /) -> PersistenceProvider:
        """The same repositories inside the caller's transaction: they see what that wrote, and never end it."""
