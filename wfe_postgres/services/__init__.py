"""A lock service and a lifecycle publisher on PostgreSQL."""

from wfe_postgres.services.locks import PostgresLockProvider

__all__ = ["PostgresLockProvider"]
