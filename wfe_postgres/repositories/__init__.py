"""One repository for each of the engine's interfaces, and the queries beyond them."""

from wfe_postgres.repositories.commands import PostgresScheduledCommandRepository
from wfe_postgres.repositories.events import PostgresEventRepository
from wfe_postgres.repositories.subscriptions import PostgresSubscriptionRepository
from wfe_postgres.repositories.workflows import PostgresWorkflowRepository

__all__ = [
    "PostgresEventRepository",
    "PostgresScheduledCommandRepository",
    "PostgresSubscriptionRepository",
    "PostgresWorkflowRepository",
]
