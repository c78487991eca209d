"""The tables of the services that hosts can share. They are no part of what applications query."""

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from wfe_postgres.orm.base import Base, BigInt, Moment


class LockRow(Base):
    """A lock that is held, or was held by a process that died."""

    __tablename__ = "lock_leases"

    resource: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[BigInt]
    acquired_at: Mapped[Moment]
    expires_at: Mapped[Moment]


class LifecyclePayloadRow(Base):
    """The JSON of a lifecycle event that is too long for a notification."""

    __tablename__ = "lifecycle_payloads"

    id: Mapped[BigInt] = mapped_column(primary_key=True)
    payload: Mapped[str]
    created_at: Mapped[Moment] = mapped_column(server_default=func.clock_timestamp())
