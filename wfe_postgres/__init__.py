"""PostgreSQL persistence provider for the WFE workflow engine."""

from wfe_postgres.contract.errors import (
    ConcurrencyError,
    CorruptRowError,
    EventExistsError,
    EventNotFoundError,
    NotFoundError,
    OutcomeUnknownError,
    PersistenceError,
    SerializationError,
    StoreNotReadyError,
    SubscriptionExistsError,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WfeError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.interfaces import PersistenceProvider, TransactionalProvider
from wfe_postgres.contract.models import (
    JSON_NULL,
    CommandName,
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.contract.queries import StoreStatistics, WorkflowFilters, WorkflowPage, WorkflowSummary
from wfe_postgres.contract.repositories import (
    EventRepository,
    ScheduledCommandRepository,
    SubscriptionRepository,
    WorkflowRepository,
)
from wfe_postgres.provider import PostgresPersistenceProvider, PostgresRepositories
from wfe_postgres.repositories.commands import PostgresScheduledCommandRepository
from wfe_postgres.repositories.events import PostgresEventRepository
from wfe_postgres.repositories.subscriptions import PostgresSubscriptionRepository
from wfe_postgres.repositories.workflows import PostgresWorkflowRepository

__all__ = [
    "JSON_NULL",
    "CommandName",
    "ConcurrencyError",
    "CorruptRowError",
    "Event",
    "EventExistsError",
    "EventNotFoundError",
    "EventRepository",
    "EventSubscription",
    "ExecutionError",
    "ExecutionPointer",
    "NotFoundError",
    "OutcomeUnknownError",
    "PersistenceError",
    "PersistenceProvider",
    "PointerStatus",
    "PostgresEventRepository",
    "PostgresPersistenceProvider",
    "PostgresRepositories",
    "PostgresScheduledCommandRepository",
    "PostgresSubscriptionRepository",
    "PostgresWorkflowRepository",
    "ScheduledCommand",
    "ScheduledCommandRepository",
    "SerializationError",
    "StoreNotReadyError",
    "StoreStatistics",
    "SubscriptionExistsError",
    "SubscriptionNotFoundError",
    "SubscriptionRepository",
    "SubscriptionTokenError",
    "TransactionalProvider",
    "WfeError",
    "WorkflowExistsError",
    "WorkflowFilters",
    "WorkflowInstance",
    "WorkflowNotFoundError",
    "WorkflowPage",
    "WorkflowRepository",
    "WorkflowStatus",
    "WorkflowSummary",
]
