"""The declarative classes in an application's own session: what can be read, joined and written there."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, ForeignKey, MetaData, Text, create_engine, delete, func, make_url, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload
from sqlalchemy.orm.exc import StaleDataError

from tests.conftest import Sql
from tests.provider.databases import contents, statements_of
from wfe_postgres import (
    ConcurrencyError,
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    WorkflowStatus,
)
from wfe_postgres.orm import Base, CommandRow, ErrorRow, EventRow, PointerRow, SequenceRow, SubscriptionRow, WorkflowRow
from wfe_postgres.testing.conformance.support import at, created, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider


class ShopBase(DeclarativeBase):
    """An application's own tables."""

    metadata = MetaData(schema="public")


class Invoice(ShopBase):
    """A row of the application's that belongs to a workflow."""

    __tablename__ = "invoices"

    number: Mapped[int] = mapped_column(primary_key=True)
    workflow_id: Mapped[str | None] = mapped_column(Text, ForeignKey(WorkflowRow.id, ondelete="SET NULL"))

    workflow: Mapped[WorkflowRow | None] = relationship(WorkflowRow)


@pytest.fixture
def invoices(app_engine: Engine) -> Iterator[Engine]:
    """An engine, and in its database the application's table."""
    ShopBase.metadata.create_all(app_engine)
    yield app_engine
    ShopBase.metadata.drop_all(app_engine)


def stored(provider: Provider, id: str, *pointers: str) -> str:
    """A workflow of these pointers, with a subscription and an error."""
    instance = created(provider, workflow(*(pointer(it) for it in pointers), id=id))
    waits = [subscription(id=f"of {id}", workflow_id=id)]
    provider.persist_workflow_with_subscriptions(instance, waits)
    provider.persist_errors([ExecutionError(id, "pointer", f"failed in {id}", error_time=at(0))])
    return id


def test_a_join_in_sql(provider: Provider, invoices: Engine) -> None:
    """The application's rows with their workflows, in one statement."""
    stored(provider, "w1", "a")
    stored(provider, "w2", "a")
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
def test_the_relationships(provider: Provider, app_engine: Engine, strategy: Callable[..., object]) -> None:
    """Pointers in their stored order, what a workflow waits for, what went wrong; and back."""
    stored(provider, "w1", "c", "a", "b")
    stored(provider, "w2", "x")
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


def test_pointers_from_before_positions_were_kept(provider: Provider, app_engine: Engine, sql: Sql) -> None:
    """They come as the table holds them, as in a load; also where the table is aliased."""
    stored(provider, "w1", *(f"p{number}" for number in range(20)))
    sql("UPDATE wfc.execution_pointers SET position = 0")
    loaded = [it.id for it in provider.get_workflow_instance("w1").execution_pointers]
    with Session(app_engine) as session:
        for strategy in (selectinload, joinedload):
            row = session.scalars(select(WorkflowRow).options(strategy(WorkflowRow.pointers))).unique().one()
            assert [it.id for it in row.pointers] == loaded
            session.expunge_all()


def test_a_foreign_key_and_a_relationship(provider: Provider, invoices: Engine) -> None:
    """From the application's own Base to a class of ours; the key holds."""
    stored(provider, "w1", "a")
    with Session(invoices) as session:
        session.add(Invoice(number=1, workflow_id="w1"))
        session.commit()
        invoice = session.get_one(Invoice, 1)
        assert invoice.workflow is not None
        assert [it.id for it in invoice.workflow.pointers] == ["a"]
        session.add(Invoice(number=2, workflow_id="nobody"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        provider.using(session).delete_workflow("w1")
        session.refresh(invoice)
        assert invoice.workflow_id is None


def test_a_late_writer_of_the_orm(provider: Provider, app_engine: Engine) -> None:
    """`StaleDataError`, and the host's save stands."""
    instance = created(provider, workflow(id="w1"))
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        instance.description = "by the host"
        provider.persist_workflow(instance)
        row.description = "by the application"
        with pytest.raises(StaleDataError):
            session.commit()
    assert provider.get_workflow_instance("w1").description == "by the host"


def test_a_late_host(provider: Provider, app_engine: Engine) -> None:
    """`ConcurrencyError`, and the application's change stands; it can be followed by a second one."""
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


def test_what_a_repository_wrote_is_read_anew(provider: Provider, app_engine: Engine) -> None:
    """A row in the session's identity map is expired, its pointers too; and it can be written at once."""
    stored(provider, "w1", "a", "b")
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        assert len(row.pointers) == 2
        happened = EventRow
        tx = provider.using(session)
        tx.create_event(event(id="event-1"))
        published = session.get_one(happened, "event-1")
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


def refused_writes() -> dict[str, Callable[[Session], object]]:
    """What is written through the repositories alone."""
    return {
        "a new workflow": lambda it: it.add(WorkflowRow(id="w", name="w", definition_id="order", version=1)),
        "a workflow's end": lambda it: it.delete(it.get_one(WorkflowRow, "w1")),
        "a workflow's data": lambda it: setattr(it.get_one(WorkflowRow, "w1"), "data", {"changed": True}),
        "a pointer": lambda it: setattr(it.get_one(WorkflowRow, "w1").pointers[0], "status", "Complete"),
        "a new pointer": lambda it: it.add(PointerRow(id="p", workflow_id="w1", step_id=1, status="Pending")),
        "an event": lambda it: it.add(EventRow(id="e", event_name="paid", event_key="1", event_time=at(0))),
        "a subscription": lambda it: it.delete(it.get_one(SubscriptionRow, "of w1")),
        "an error": lambda it: it.delete(it.scalars(select(ErrorRow)).one()),
        "a command": lambda it: it.add(CommandRow(command_name="ProcessEvent", data="e", execute_time=0)),
        "a sequence": lambda it: it.add(SequenceRow(definition_id="order", next_num=1)),
    }


@pytest.mark.parametrize("write", refused_writes().values(), ids=refused_writes())
def test_everything_else_is_read_only(
    provider: Provider, app_engine: Engine, database_url: str, write: Callable[[Session], object]
) -> None:
    """Refused with a sentence, before anything is sent."""
    stored(provider, "w1", "a")
    before = contents(database_url)
    with Session(app_engine) as session:
        write(session)
        with pytest.raises(InvalidRequestError, match="through the repositories"):
            session.flush()
        session.rollback()
    assert contents(database_url) == before


def test_related_rows_are_view_only(provider: Provider, app_engine: Engine, database_url: str) -> None:
    """What is done to the lists is not written."""
    stored(provider, "w1", "a", "b")
    before = contents(database_url)
    with Session(app_engine) as session:
        session.get_one(WorkflowRow, "w1").pointers.pop()
        session.commit()
    assert contents(database_url) == before


def test_the_metadata_makes_no_tables(empty_database_url: str) -> None:
    """Nor drops it any: the store has migrations."""
    engine = create_engine(make_url(empty_database_url).set(drivername="postgresql+psycopg"))
    for make in (Base.metadata.create_all, Base.metadata.drop_all):
        with pytest.raises(InvalidRequestError, match="ensure_store_exists"):
            make(engine)
    engine.dispose()


def test_an_applications_own_metadata_can(provider: Provider, invoices: Engine, sql: Sql) -> None:
    """Its tables refer to ours, and are made and dropped without ours."""
    assert sql("SELECT count(*) FROM public.invoices") == [(0,)]
    ShopBase.metadata.drop_all(invoices)
    ShopBase.metadata.create_all(invoices)
    provider.get_statistics()


def test_another_schema(empty_database_url: str) -> None:
    """By SQLAlchemy's own translation."""
    with Provider(empty_database_url, schema="tenant") as provider:
        provider.ensure_store_exists()
        stored(provider, "w1", "a", "b")
        translated = provider.engine.execution_options(schema_translate_map={"wfc": "tenant"})
        with Session(translated) as session:
            row = session.get_one(WorkflowRow, "w1")
            assert [it.id for it in row.pointers] == ["a", "b"]
            row.reference = "by the application"
            session.commit()
        assert provider.get_workflow_instance("w1").reference == "by the application"


def test_it_shows_its_key_and_no_values(provider: Provider, app_engine: Engine) -> None:
    """In logs and in a debugger."""
    stored(provider, "w1", "a")
    with Session(app_engine) as session:
        row = session.get_one(WorkflowRow, "w1")
        assert repr(row) == "WorkflowRow('w1')"
        assert repr(row.pointers[0]) == "PointerRow('w1', 'a')"
    assert repr(WorkflowRow(id="new")) == "WorkflowRow('new')"


def test_with_flask_sqlalchemy(provider: Provider, database_url: str) -> None:
    """Its session, with several binds: the classes are in the default one."""
    db = SQLAlchemy(model_class=DeclarativeBase)
    app = Flask(__name__)
    url = make_url(database_url).set(drivername="postgresql+psycopg")
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_BINDS"] = {"archive": "sqlite://"}
    db.init_app(app)
    stored(provider, "w1", "a", "b")
    with app.app_context():
        tx = provider.using(db.session)
        tx.create_event(event(id="event-1"))
        row = db.session.get_one(WorkflowRow, "w1")
        assert [it.id for it in row.pointers] == ["a", "b"]
        assert db.session.scalar(select(func.count()).select_from(EventRow)) == 1
        db.session.commit()
        for engine in db.engines.values():
            engine.dispose()


# What an application's foreign key means for the end of workflows -------------------------------------------


def test_a_purge_leaves_what_is_referred_to(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    """The others go; the log names the tables. A later purge takes it when nobody refers to it any more."""
    for id in ("w1", "w2", "w3"):
        provider.create_new_workflow(workflow(id=id, status=WorkflowStatus.COMPLETE, complete_time=at(0)))
    sql(
        'CREATE TABLE public."odd % :name"'
        ' (id text REFERENCES wfc.workflows (id), "a :name" text REFERENCES wfc.workflows (name))'
    )
    sql("""INSERT INTO public."odd % :name" VALUES ('w1', NULL), (NULL, 'w2')""")
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(1), batch_size=1) == 1
    assert sql("SELECT id FROM wfc.workflows ORDER BY 1") == [("w1",), ("w2",)]
    assert "odd % :name" in caplog.text
    sql('DELETE FROM public."odd % :name" WHERE id IS NULL')
    caplog.clear()
    sql('DELETE FROM public."odd % :name"')
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(1)) == 2
    assert caplog.text == ""
    sql('DROP TABLE public."odd % :name"')


@pytest.mark.parametrize("ending", ["CASCADE", "SET NULL"])
def test_a_purge_takes_what_gives_way(provider: Provider, sql: Sql, ending: str) -> None:
    """ON DELETE CASCADE and SET NULL do as they say."""
    provider.create_new_workflow(workflow(id="w1", status=WorkflowStatus.COMPLETE, complete_time=at(0)))
    sql(f"CREATE TABLE public.invoices (id text REFERENCES wfc.workflows ON DELETE {ending})")
    sql("INSERT INTO public.invoices VALUES ('w1')")
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(1)) == 1
    left = sql("SELECT id FROM public.invoices")
    sql("DROP TABLE public.invoices")
    assert left == ([] if ending == "CASCADE" else [(None,)])


def test_truncate_all_names_who_refers_to_the_store(provider: Provider, invoices: Engine, database_url: str) -> None:
    """It refuses, whatever the key says, without a failing statement."""
    stored(provider, "w1", "a")
    before = contents(database_url)
    with Session(invoices) as session:
        for target in (provider, provider.using(session)):
            with pytest.raises(PersistenceError, match="invoices"):
                target.truncate_all()
        session.execute(delete(Invoice))
        session.execute(text("SELECT 1"))
    assert contents(database_url) == before
