"""The declarative classes in an application's session: reads, joins and writes."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, create_engine, func, make_url, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Session, joinedload, selectinload
from sqlalchemy.orm.exc import StaleDataError

from tests.conftest import Sql
from tests.provider.databases import contents, statements_of
from tests.provider.invoices import Invoice, store_workflow
from wfe_postgres import (
    ConcurrencyError,
    PostgresPersistenceProvider,
    WorkflowStatus,
)
from wfe_postgres.orm import Base, CommandRow, ErrorRow, EventRow, PointerRow, SequenceRow, SubscriptionRow, WorkflowRow
from wfe_postgres.testing.conformance.support import at, created, event, workflow

Provider = PostgresPersistenceProvider


def test_join_with_an_application_table_returns_both_rows(provider: Provider, invoices: Engine) -> None:
    """Application rows and their workflows are selected in one statement."""
    store_workflow(provider, "w1", "a")
    store_workflow(provider, "w2", "a")
    with Session(invoices) as session:
        session.add_all([Invoice(number=1, workflow_id="w2"), Invoice(number=2, workflow_id="w1")])
        session.flush()
        joined = select(Invoice, WorkflowRow).join(WorkflowRow, WorkflowRow.id == Invoice.workflow_id)
        with statements_of(invoices) as sent:
            found = session.execute(joined.order_by(Invoice.number)).all()
        assert len(sent) == 1
    assert [(invoice.number, row.id, row.status) for invoice, row in found] == [
        (1, "w2", WorkflowStatus.RUNNABLE),
        (2, "w1", WorkflowStatus.RUNNABLE),
    ]


@pytest.mark.parametrize("strategy", [selectinload, joinedload])
def test_relationships_load_related_rows(
    provider: Provider, app_engine: Engine, strategy: Callable[..., object]
) -> None:
    """Pointers in stored order, subscriptions and errors, and the workflow from each of them."""
    store_workflow(provider, "w1", "c", "a", "b")
    store_workflow(provider, "w2", "x")
    related = (WorkflowRow.pointers, WorkflowRow.subscriptions, WorkflowRow.errors)
    with Session(app_engine) as session:
        query = select(WorkflowRow).order_by(WorkflowRow.id).options(*(strategy(it) for it in related))  # type: ignore[arg-type]
        first, second = session.scalars(query).unique()
        assert [it.id for it in first.pointers] == ["c", "a", "b"]
        assert [it.id for it in second.subscriptions] == ["of w2"]
        assert [it.message for it in first.errors] == ["failed in w1"]
        assert first.pointers[0].workflow is first
        assert first.subscriptions[0].workflow is first
        assert first.errors[0].workflow is first


def test_pointers_with_equal_positions_keep_the_loaded_order(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """Rows from before the column `position` have the same order as in `get_workflow_instance`, also with an alias."""
    store_workflow(provider, "w1", *(f"p{number}" for number in range(20)))
    sql("UPDATE wfc.execution_pointers SET position = 0")
    loaded = [it.id for it in provider.get_workflow_instance("w1").execution_pointers]
    with Session(app_engine) as session:
        for strategy in (selectinload, joinedload):
            row = session.scalars(select(WorkflowRow).options(strategy(WorkflowRow.pointers))).unique().one()
            assert [it.id for it in row.pointers] == loaded
            session.expunge_all()


def test_stale_orm_write_raises_stale_data_error(provider: Provider, app_engine: Engine) -> None:
    """Optimistic locking: the earlier save of the provider is kept."""
    instance = created(provider, workflow(id="w1"))
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        instance.description = "by the host"
        provider.persist_workflow(instance)
        row.description = "by the application"
        with pytest.raises(StaleDataError):
            session.commit()
    assert provider.get_workflow_instance("w1").description == "by the host"


def test_stale_save_after_an_orm_write_raises_concurrency_error(provider: Provider, app_engine: Engine) -> None:
    """Optimistic locking: both earlier commits of the application are kept."""
    instance = created(provider, workflow(id="w1"))
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        for reference in ("first", "second"):
            row.reference = reference
            session.commit()
        revision = row.revision
    instance.reference = "by the host"
    with pytest.raises(ConcurrencyError) as caught:
        provider.persist_workflow(instance)
    assert caught.value.found == revision
    assert provider.get_workflow_instance("w1").reference == "second"


def test_repository_writes_expire_loaded_rows(provider: Provider, app_engine: Engine) -> None:
    """Rows in the identity map and their pointers are reloaded, and can then be written without a conflict."""
    store_workflow(provider, "w1", "a", "b")
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        assert len(row.pointers) == 2
        tx = provider.using(session)
        tx.create_event(event(id="event-1"))
        published = session.get_one(EventRow, "event-1")
        instance = tx.get_workflow_instance("w1")
        instance.description = "by the host"
        instance.execution_pointers.pop()
        tx.persist_workflow(instance)
        tx.mark_event_processed("event-1")
        assert row.description == "by the host"
        assert [it.id for it in row.pointers] == ["a"]
        assert published.is_processed
        row.reference = "by the application"
        session.commit()
    assert provider.get_workflow_instance("w1").reference == "by the application"


def rejected_writes() -> dict[str, Callable[[Session], object]]:
    """Writes that the declarative classes do not allow."""
    return {
        "insert a workflow": lambda it: it.add(WorkflowRow(id="w", name="w", definition_id="order", version=1)),
        "delete a workflow": lambda it: it.delete(it.get_one(WorkflowRow, "w1")),
        "update a workflow's id": lambda it: setattr(it.get_one(WorkflowRow, "w1"), "id", "other"),
        "update a workflow's revision": lambda it: setattr(it.get_one(WorkflowRow, "w1"), "revision", 1),
        "update a workflow's data": lambda it: setattr(it.get_one(WorkflowRow, "w1"), "data", {"changed": True}),
        "update a pointer": lambda it: setattr(it.get_one(WorkflowRow, "w1").pointers[0], "status", "Complete"),
        "insert a pointer": lambda it: it.add(PointerRow(id="p", workflow_id="w1", step_id=1, status="Pending")),
        "insert an event": lambda it: it.add(EventRow(id="e", event_name="paid", event_key="1", event_time=at(0))),
        "delete a subscription": lambda it: it.delete(it.get_one(SubscriptionRow, "of w1")),
        "delete an error": lambda it: it.delete(it.scalars(select(ErrorRow)).one()),
        "insert a command": lambda it: it.add(CommandRow(command_name="ProcessEvent", data="e", execute_time=0)),
        "insert a sequence": lambda it: it.add(SequenceRow(definition_id="order", next_num=1)),
    }


@pytest.mark.parametrize("write", rejected_writes().values(), ids=rejected_writes())
def test_writes_of_other_columns_and_tables_are_rejected(
    provider: Provider, app_engine: Engine, database_url: str, write: Callable[[Session], object]
) -> None:
    """InvalidRequestError at flush, before a statement is sent."""
    store_workflow(provider, "w1", "a")
    before = contents(database_url)
    with Session(app_engine) as session:
        write(session)
        with pytest.raises(InvalidRequestError, match="through the repositories"):
            session.flush()
        session.rollback()
    assert contents(database_url) == before


def test_changes_of_relationship_lists_are_not_written(
    provider: Provider, app_engine: Engine, database_url: str
) -> None:
    """The relationships are view-only."""
    store_workflow(provider, "w1", "a", "b")
    before = contents(database_url)
    with Session(app_engine) as session:
        session.get_one(WorkflowRow, "w1").pointers.pop()
        session.commit()
    assert contents(database_url) == before


def test_create_all_and_drop_all_are_rejected(empty_database_url: str) -> None:
    """The error names `ensure_store_exists`, which runs the migrations."""
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    for make in (Base.metadata.create_all, Base.metadata.drop_all):
        with pytest.raises(InvalidRequestError, match="ensure_store_exists"):
            make(engine)
    engine.dispose()


def test_schema_translate_map_selects_the_schema(empty_database_url: str) -> None:
    """The declarative classes work in another schema through SQLAlchemy's `schema_translate_map`."""
    with Provider(empty_database_url, schema="tenant") as provider:
        provider.ensure_store_exists()
        store_workflow(provider, "w1", "a", "b")
        translated = provider.engine.execution_options(schema_translate_map={"wfc": "tenant"})
        with Session(translated) as session:
            row = session.get_one(WorkflowRow, "w1")
            assert [it.id for it in row.pointers] == ["a", "b"]
            row.reference = "by the application"
            session.commit()
        assert provider.get_workflow_instance("w1").reference == "by the application"


def test_repr_shows_only_the_primary_key(provider: Provider, app_engine: Engine) -> None:
    """No other column values appear in logs or debuggers."""
    store_workflow(provider, "w1", "a")
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        assert repr(row) == "WorkflowRow('w1')"
        assert repr(row.pointers[0]) == "PointerRow('w1', 'a')"
    assert repr(WorkflowRow(id="new")) == "WorkflowRow('new')"


def test_flask_sqlalchemy_session_with_several_binds_uses_the_default_bind(
    provider: Provider, database_url: str
) -> None:
    """The declarative classes use the default bind of Flask-SQLAlchemy."""
    db = SQLAlchemy(model_class=DeclarativeBase)
    app = Flask(__name__)
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_BINDS"] = {"archive": "sqlite://"}
    db.init_app(app)
    store_workflow(provider, "w1", "a", "b")
    with app.app_context():
        tx = provider.using(db.session)
        tx.create_event(event(id="event-1"))
        row = db.session.get_one(WorkflowRow, "w1")
        assert [it.id for it in row.pointers] == ["a", "b"]
        assert db.session.scalar(select(func.count()).select_from(EventRow)) == 1
        db.session.commit()
        for engine in db.engines.values():
            engine.dispose()
