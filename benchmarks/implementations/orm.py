"""A plain ORM implementation: reload with `selectinload`, change, flush; with its own mapped classes and tables.

The tables have the same indexes as the provider's. Like the provider, it uses optimistic locking (`version_id_col`),
detects changes and writes only those. Each call uses a new session.
"""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Engine, ForeignKey, MetaData, Text, create_engine, delete, make_url, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload
from sqlalchemy.schema import CreateSchema

from wfe_postgres import ExecutionPointer, PointerStatus, WorkflowInstance, WorkflowStatus

SCHEMA = "orm"

Json = JSONB(none_as_null=True)


class Base(DeclarativeBase):
    """The declarative base."""

    metadata: ClassVar[MetaData] = MetaData(schema=SCHEMA)
    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text(), datetime: DateTime(timezone=True), Any: Json}


class Workflow(Base):
    """A workflow."""

    __tablename__ = "workflows"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    root_workflow_id: Mapped[str | None]
    workflow_definition_id: Mapped[str]
    version: Mapped[int]
    description: Mapped[str | None]
    reference: Mapped[str | None]
    status: Mapped[str]
    data: Mapped[Any]
    next_execution: Mapped[int | None] = mapped_column(BigInteger)
    create_time: Mapped[datetime]
    complete_time: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(BigInteger)
    pointers: Mapped[list["Pointer"]] = relationship(order_by="Pointer.position", cascade="all, delete-orphan")

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012


class Pointer(Base):
    """An execution pointer."""

    __tablename__ = "execution_pointers"

    workflow_id: Mapped[str] = mapped_column(ForeignKey(Workflow.id), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    step_id: Mapped[int]
    active: Mapped[bool]
    status: Mapped[str]
    sleep_until: Mapped[datetime | None]
    persistence_data: Mapped[Any | None]
    start_time: Mapped[datetime | None]
    end_time: Mapped[datetime | None]
    event_name: Mapped[str | None]
    event_key: Mapped[str | None]
    event_published: Mapped[bool]
    event_data: Mapped[Any | None]
    step_name: Mapped[str | None]
    retry_count: Mapped[int]
    children: Mapped[Any]
    context_item: Mapped[Any | None]
    predecessor_id: Mapped[str | None]
    outcome: Mapped[Any | None]
    scope: Mapped[Any]
    extension_attributes: Mapped[Any]


_WORKFLOW = [it.key for it in Workflow.__table__.columns if it.key not in ("revision", "status")]
_POINTER = [it.key for it in Pointer.__table__.columns if it.key not in ("workflow_id", "position", "status")]


def create_tables(url: str) -> None:
    """Create the tables."""
    engine = _engine(url)
    with engine.begin() as connection:
        connection.execute(CreateSchema(SCHEMA))
        Base.metadata.create_all(connection)
    engine.dispose()


class Orm:
    """See the module."""

    schema: ClassVar[str] = SCHEMA

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    def create(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        instance.name = instance.name or instance.id
        with Session(self._engine) as session, session.begin():
            row = Workflow()
            _write(instance, row)
            session.add(row)

    def load(self, id: str) -> WorkflowInstance:
        """See `Store`."""
        with Session(self._engine) as session, session.begin():
            return _read(_get(session, id))

    def save(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        with Session(self._engine) as session, session.begin():
            _write(instance, _get(session, instance.id))

    def undo_step(self, instance: WorkflowInstance) -> None:
        """See `Store`."""
        last = instance.execution_pointers.pop()
        with self._engine.begin() as connection:
            connection.execute(delete(Pointer).where(Pointer.workflow_id == instance.id, Pointer.id == last.id))

    def clear(self) -> None:
        """See `Store`."""
        with self._engine.begin() as connection:
            connection.execute(text("TRUNCATE orm.workflows, orm.execution_pointers"))

    def close(self) -> None:
        """See `Store`."""
        self._engine.dispose()


def _engine(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"))


def _get(session: Session, id: str) -> Workflow:
    return session.get_one(Workflow, id, options=[selectinload(Workflow.pointers)])


def _write(instance: WorkflowInstance, row: Workflow) -> None:
    for name in _WORKFLOW:
        setattr(row, name, getattr(instance, name))
    row.status = instance.status.value
    existing = {pointer.id: pointer for pointer in row.pointers}
    row.pointers[:] = [existing.get(pointer.id) or Pointer() for pointer in instance.execution_pointers]
    for position, (pointer, target) in enumerate(zip(instance.execution_pointers, row.pointers, strict=True)):
        for name in _POINTER:
            setattr(target, name, getattr(pointer, name))
        target.status = pointer.status.value
        target.position = position


def _read(row: Workflow) -> WorkflowInstance:
    values = {name: getattr(row, name) for name in _WORKFLOW}
    pointers = [_read_pointer(pointer) for pointer in row.pointers]
    return WorkflowInstance(**values, status=WorkflowStatus(row.status), execution_pointers=pointers)


def _read_pointer(row: Pointer) -> ExecutionPointer:
    return ExecutionPointer(**{name: getattr(row, name) for name in _POINTER}, status=PointerStatus(row.status))
