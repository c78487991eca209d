"""PostgreSQL persistence provider for the WFE workflow engine."""

from wfe_postgres.contract.errors import (
    ConcurrencyError,
    CorruptRowError,
    EventNotFoundError,
    OutcomeUnknownError,
    PersistenceError,
    SerializationError,
    StoreNotReadyError,
    SubscriptionNotFoundError,
    SubscriptionTokenError,
    WfeError,
    WorkflowExistsError,
    WorkflowNotFoundError,
)
from wfe_postgres.contract.interfaces import (
    EventRepository,
    PersistenceProvider,
    ScheduledCommandRepository,
    SubscriptionRepository,
    WorkflowRepository,
)
from wfe_postgres.contract.models import (
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
from wfe_postgres.contract.reports import StoreStatistics, WorkflowPage, WorkflowSummary
from wfe_postgres.provider import PostgresPersistenceProvider
from wfe_postgres.repositories import (
    PostgresEventRepository,
    PostgresScheduledCommandRepository,
    PostgresSubscriptionRepository,
    PostgresWorkflowRepository,
)

__all__ = [
    "CommandName",
    "ConcurrencyError",
    "CorruptRowError",
    "Event",
    "EventNotFoundError",
    "EventRepository",
    "EventSubscription",
    "ExecutionError",
    "ExecutionPointer",
    "OutcomeUnknownError",
    "PersistenceError",
    "PersistenceProvider",
    "PointerStatus",
    "PostgresEventRepository",
    "PostgresPersistenceProvider",
    "PostgresScheduledCommandRepository",
    "PostgresSubscriptionRepository",
    "PostgresWorkflowRepository",
    "ScheduledCommand",
    "ScheduledCommandRepository",
    "SerializationError",
    "StoreNotReadyError",
    "StoreStatistics",
    "SubscriptionNotFoundError",
    "SubscriptionRepository",
    "SubscriptionTokenError",
    "WfeError",
    "WorkflowExistsError",
    "WorkflowInstance",
    "WorkflowNotFoundError",
    "WorkflowPage",
    "WorkflowRepository",
    "WorkflowStatus",
    "WorkflowSummary",
]
