"""A queue, a lock service and a lifecycle publisher on PostgreSQL, for hosts that share a store."""

from wfe_postgres.services.lifecycle import PostgresLifecyclePublisher
from wfe_postgres.services.locks import PostgresLockProvider
from wfe_postgres.services.queues import PostgresQueueProvider

__all__ = ["PostgresLifecyclePublisher", "PostgresLockProvider", "PostgresQueueProvider"]
