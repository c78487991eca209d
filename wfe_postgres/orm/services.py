"""The tables of the services that hosts can share. They are no part of what applications query."""

from typing import Any

from sqlalchemy import FetchedValue, Index, PrimaryKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from wfe_postgres.orm.base import Base, BigInt, Timestamp


class LockRow(Base):
    """A lock that is held, or was held by a process that died."""

    __tablename__ = "lock_leases"

    resource: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[BigInt]
    acquired_at: Mapped[Timestamp]
    expires_at: Mapped[Timestamp]


class LifecyclePayloadRow(Base):
    """The JSON of a lifecycle event that is too long for a notification."""

    __tablename__ = "lifecycle_payloads"

    id: Mapped[BigInt] = mapped_column(primary_key=True)
    payload: Mapped[str]
    created_at: Mapped[Timestamp] = mapped_column(server_default=func.clock_timestamp())


class QueueRow(Base):
    """An id that is queued. One that several transactions have queued has several rows, and is taken once."""

    __tablename__ = "work_queue"
    __table_args__: Any = (PrimaryKeyConstraint("queue", "position"), Index("idx_work_queue_id", "id"))

    queue: Mapped[str]
    position: Mapped[BigInt] = mapped_column(server_default=FetchedValue())
    id: Mapped[str]
    queued_at: Mapped[Timestamp] = mapped_column(server_default=func.clock_timestamp())


SERVICE_TABLES: frozenset[str] = frozenset(it.__tablename__ for it in (LockRow, LifecyclePayloadRow, QueueRow))
"""Their names."""
