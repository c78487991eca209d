"""One declarative class per table.

The column names and types are the Rust provider's, so that both can serve one database; what this library adds
(positions, revisions, claims, nonces and their indexes) has defaults, so that a Rust host's statements need not know
of it. The migrations write their own DDL; `alembic check` compares the two.
"""

from typing import Any

from sqlalchemy import (
    Column,
    FetchedValue,
    ForeignKey,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    false,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, foreign, mapped_column, relationship

from wfe_postgres.orm.base import Base, BigInt, Json, RowAddress, Serial, Timestamp

_RUNNABLE = text("(status = 'Runnable') IS TRUE AND next_execution IS NOT NULL")
_HAS_REFERENCE = text("reference IS NOT NULL")
_HAS_ROOT = text("root_workflow_id IS NOT NULL")


def _prefix_index(name: str, column: str, **options: Any) -> Index:
    prefix = func.left(literal_column(column), literal_column("200")).label("prefix")
    return Index(name, prefix, postgresql_ops={"prefix": "text_pattern_ops"}, **options)


class WorkflowRow(Base):
    """One workflow instance without its pointers. `revision` changes with every UPDATE, by any program."""

    __tablename__ = "workflows"
    __table_args__: Any = (
        Index("idx_workflows_next_execution", "next_execution"),
        Index("idx_workflows_status", "status"),
        Index("idx_workflows_runnable", "next_execution", "id", postgresql_where=_RUNNABLE),
        Index(
            "idx_workflows_runnable_definition",
            "definition_id",
            "version",
            "next_execution",
            postgresql_where=_RUNNABLE,
        ),
        _prefix_index("idx_workflows_name_prefix", "name"),
        _prefix_index("idx_workflows_reference_prefix", "reference", postgresql_where=_HAS_REFERENCE),
        Index("idx_workflows_create_time", "create_time", "id", postgresql_where=text("id >= ''")),
        Index("idx_workflows_definition", "definition_id", "create_time"),
        Index("idx_workflows_status_create_time", "status", "create_time"),
        Index("idx_workflows_reference", "reference", postgresql_using="hash", postgresql_where=_HAS_REFERENCE),
        Index("idx_workflows_root", "root_workflow_id", postgresql_using="hash", postgresql_where=_HAS_ROOT),
        Index("idx_workflows_finished", "status", "complete_time", postgresql_where=text("complete_time IS NOT NULL")),
        Index(
            "idx_workflows_open_members",
            text("coalesce(root_workflow_id, id)"),
            postgresql_using="hash",
            postgresql_where=text("root_workflow_id IS NOT NULL AND status NOT IN ('Complete', 'Terminated')"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    root_workflow_id: Mapped[str | None]
    definition_id: Mapped[str]
    version: Mapped[int]
    description: Mapped[str | None]
    reference: Mapped[str | None]
    status: Mapped[str]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    next_execution: Mapped[BigInt | None]
    create_time: Mapped[Timestamp]
    complete_time: Mapped[Timestamp | None]
    last_heartbeat_at: Mapped[Timestamp | None]
    revision: Mapped[BigInt] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())

    pointers: Mapped[list["PointerRow"]] = relationship(
        viewonly=True, order_by=lambda: (PointerRow.position, PointerRow.__table__.c.ctid)
    )
    """Its steps in their stored order."""
    subscriptions: Mapped[list["SubscriptionRow"]] = relationship(
        viewonly=True,
        primaryjoin=lambda: WorkflowRow.id == foreign(SubscriptionRow.workflow_id),
        order_by=lambda: (SubscriptionRow.subscribe_as_of, SubscriptionRow.id),
    )
    """What it waits for, the oldest first."""
    errors: Mapped[list["ErrorRow"]] = relationship(
        viewonly=True,
        primaryjoin=lambda: WorkflowRow.id == foreign(ErrorRow.workflow_id),
        order_by=lambda: (ErrorRow.error_time, ErrorRow.id),
    )
    """What its steps raised, the oldest first."""

    # A trigger gives the row a new revision at every UPDATE, so the UPDATE of a late writer finds no row.
    __mapper_args__: Any = {"version_id_col": revision, "version_id_generator": False}  # noqa: RUF012 - SQLAlchemy looks for it here


class PointerRow(Base):
    """One step of one workflow. `position` orders the pointers of a workflow; gaps mean nothing."""

    __tablename__ = "execution_pointers"
    __table_args__: Any = (
        PrimaryKeyConstraint("workflow_id", "id"),
        Index("idx_execution_pointers_position", "workflow_id", "position"),
        # Pointers from before positions were kept all have the same one: they come as the table holds them.
        Column("ctid", RowAddress(), system=True),
    )
    __mapper_args__: Any = {"exclude_properties": ["ctid"]}  # noqa: RUF012 - SQLAlchemy looks for it here

    id: Mapped[str]
    workflow_id: Mapped[str] = mapped_column(ForeignKey(WorkflowRow.id))
    step_id: Mapped[int]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    status: Mapped[str]
    sleep_until: Mapped[Timestamp | None]
    persistence_data: Mapped[Json | None]
    start_time: Mapped[Timestamp | None]
    end_time: Mapped[Timestamp | None]
    event_name: Mapped[str | None]
    event_key: Mapped[str | None]
    event_published: Mapped[bool | None] = mapped_column(server_default=false())
    event_data: Mapped[Json | None]
    step_name: Mapped[str | None]
    retry_count: Mapped[int | None] = mapped_column(server_default=text("0"))
    children: Mapped[Json | None] = mapped_column(server_default=text("'[]'"))
    context_item: Mapped[Json | None]
    predecessor_id: Mapped[str | None]
    outcome: Mapped[Json | None]
    scope: Mapped[Json | None] = mapped_column(server_default=text("'[]'"))
    extension_attributes: Mapped[Json | None] = mapped_column(server_default=text("'{}'"))
    position: Mapped[BigInt] = mapped_column(server_default=FetchedValue())

    workflow: Mapped[WorkflowRow] = relationship(viewonly=True)


class EventRow(Base):
    """One published event."""

    __tablename__ = "events"
    __table_args__: Any = (
        Index("idx_events_name_key", "event_name", "event_key"),
        Index("idx_events_name_key_time", "event_name", "event_key", "event_time"),
        Index("idx_events_is_processed", "is_processed"),
        Index("idx_events_event_time", "event_time"),
        Index("idx_events_unprocessed", "event_time", "id", postgresql_where=text("(is_processed = false) IS TRUE")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    event_name: Mapped[str]
    event_key: Mapped[str]
    event_data: Mapped[Json] = mapped_column(server_default=text("'null'"))
    event_time: Mapped[Timestamp]
    is_processed: Mapped[bool | None] = mapped_column(server_default=false())


class SubscriptionRow(Base):
    """One pointer's wait for an event, and the token that locks it."""

    __tablename__ = "event_subscriptions"
    __table_args__: Any = (
        Index("idx_subscriptions_name_key", "event_name", "event_key"),
        Index("idx_subscriptions_workflow", "workflow_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    workflow_id: Mapped[str]
    step_id: Mapped[int]
    execution_pointer_id: Mapped[str]
    event_name: Mapped[str]
    event_key: Mapped[str]
    subscribe_as_of: Mapped[Timestamp]
    subscription_data: Mapped[Json | None]
    external_token: Mapped[str | None]
    external_worker_id: Mapped[str | None]
    external_token_expiry: Mapped[Timestamp | None]

    workflow: Mapped[WorkflowRow | None] = relationship(
        viewonly=True, primaryjoin=lambda: WorkflowRow.id == foreign(SubscriptionRow.workflow_id)
    )


class ErrorRow(Base):
    """What went wrong in one run of a step. `nonce` tells a repeated insert from a second error."""

    __tablename__ = "execution_errors"
    __table_args__: Any = (
        Index("idx_errors_workflow", "workflow_id", "error_time", "id"),
        Index("idx_errors_error_time", "error_time", "id"),
        Index("idx_errors_nonce", "nonce", unique=True),
    )

    id: Mapped[Serial]
    error_time: Mapped[Timestamp]
    workflow_id: Mapped[str]
    execution_pointer_id: Mapped[str]
    message: Mapped[str]
    nonce: Mapped[BigInt | None]

    workflow: Mapped[WorkflowRow | None] = relationship(
        viewonly=True, primaryjoin=lambda: WorkflowRow.id == foreign(ErrorRow.workflow_id)
    )


class CommandRow(Base):
    """One scheduled command; while a host runs it, `claim` and `claimed_until` say whose and how long."""

    __tablename__ = "scheduled_commands"
    __table_args__: Any = (
        UniqueConstraint("command_name", "data", name="scheduled_commands_command_name_data_key"),
        Index("idx_scheduled_commands_execute_time", "execute_time"),
    )

    id: Mapped[Serial]
    command_name: Mapped[str]
    data: Mapped[str]
    execute_time: Mapped[BigInt]
    claim: Mapped[BigInt | None]
    claimed_until: Mapped[Timestamp | None]
    rescheduled: Mapped[bool] = mapped_column(server_default=false())


class SequenceRow(Base):
    """The last number that was given out for a definition."""

    __tablename__ = "definition_sequences"

    definition_id: Mapped[str] = mapped_column(primary_key=True)
    next_num: Mapped[BigInt]
