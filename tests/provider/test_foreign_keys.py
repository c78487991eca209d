"""Foreign keys and relationships from an application's tables to the store, and their effect on deletion."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, delete, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.conftest import Sql
from tests.provider.databases import contents
from tests.provider.invoices import Invoice, ShopBase, store_workflow
from wfe_postgres import (
    ExecutionError,
    PersistenceError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowStatus,
)
from wfe_postgres.testing.conformance.support import at, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider


def test_foreign_key_and_relationship_to_a_workflow_are_supported(provider: Provider, invoices: Engine) -> None:
    """An application class can refer to WorkflowRow, and the foreign key is enforced."""
    store_workflow(provider, "w1", "a")
    with Session(invoices) as session:
        session.add(Invoice(number=1, workflow_id="w1"))
        session.commit()
        invoice = session.get_one(Invoice, 1)
        assert invoice.workflow is not None
        assert [it.id for it in invoice.workflow.pointers] == ["a"]
        session.add(Invoice(number=2, workflow_id="missing"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        provider.using(session).delete_workflow("w1")
        session.refresh(invoice)
        assert invoice.workflow_id is None


def test_application_metadata_creates_only_its_own_tables(provider: Provider, invoices: Engine, sql: Sql) -> None:
    """Tables that refer to the store can be created and dropped without creating or dropping its tables."""
    assert sql("SELECT count(*) FROM public.invoices") == [(0,)]
    ShopBase.metadata.drop_all(invoices)
    ShopBase.metadata.create_all(invoices)
    provider.get_statistics()


def test_purge_keeps_referenced_workflows(provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture) -> None:
    """The other workflows are deleted, and the log names the referring tables. A purge after the references are gone
    deletes the rest.
    """
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


COMPLETE = WorkflowStatus.COMPLETE
PURGES: dict[str, Callable[[Provider], int]] = {
    "execution_pointers": lambda it: it.purge_workflows(COMPLETE, at(1), batch_size=1),
    "event_subscriptions": lambda it: it.purge_workflows(COMPLETE, at(1), batch_size=1),
    "execution_errors": lambda it: it.purge_workflows(COMPLETE, at(1), batch_size=1),
    "execution_errors, purged": lambda it: it.purge_errors(at(1), batch_size=1),
    "events": lambda it: it.purge_events(at(1), batch_size=1),
    "event_subscriptions, orphaned": lambda it: it.delete_orphans(at(1)),
    "execution_errors, orphaned": lambda it: it.delete_orphans(at(1)),
    "scheduled_commands": lambda it: it.delete_orphans(at(1)),
}
KEY = {"execution_pointers": "workflow_id, id", "scheduled_commands": "command_name, data"}


def store_two_of_each(provider: Provider, *, with_workflows: bool) -> None:
    """Two workflows with a pointer, a subscription and an error each; two events, and two orphaned commands."""
    for id in ("1", "2"):
        if with_workflows:
            provider.create_new_workflow(workflow(pointer(f"p{id}"), id=id, status=COMPLETE, complete_time=at(0)))
        provider.create_event_subscription(subscription(id=id, workflow_id=id, subscribe_as_of=at(0)))
        provider.persist_errors([ExecutionError(id, f"p{id}", "failed", error_time=at(0))])
        provider.create_event(event(id=id, event_time=at(0), is_processed=True))
    for id in ("gone", "lost"):
        provider.schedule_command(ScheduledCommand.process_workflow(id, 0))


@pytest.mark.parametrize("case", PURGES)
def test_purge_keeps_what_is_referenced_in_any_table(
    provider: Provider, sql: Sql, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """With the workflow that such a row belongs to; all else is deleted, and the log names the referring table."""
    table = case.partition(",")[0]
    store_two_of_each(provider, with_workflows=not case.endswith("orphaned"))
    columns = KEY.get(table, "id")
    sql(f"CREATE TABLE public.own AS SELECT {columns} FROM wfc.{table} ORDER BY id LIMIT 1")
    sql(f"ALTER TABLE public.own ADD FOREIGN KEY ({columns}) REFERENCES wfc.{table} ({columns})")
    expected = 5 if case.endswith("orphaned") else 1  # of two subscriptions, errors and commands all but one
    assert PURGES[case](provider) == expected
    assert sql(f"SELECT {columns} FROM wfc.{table}") == sql("SELECT * FROM public.own")
    assert "own" in caplog.text
    sql("DROP TABLE public.own")
    caplog.clear()
    assert PURGES[case](provider) == 1
    assert caplog.text == ""


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_purge_applies_on_delete_actions(provider: Provider, sql: Sql, action: str) -> None:
    """ON DELETE CASCADE and SET NULL are applied to the referring rows."""
    provider.create_new_workflow(workflow(id="w1", status=WorkflowStatus.COMPLETE, complete_time=at(0)))
    sql(f"CREATE TABLE public.invoices (id text REFERENCES wfc.workflows ON DELETE {action})")
    sql("INSERT INTO public.invoices VALUES ('w1')")
    assert provider.purge_workflows(WorkflowStatus.COMPLETE, at(1)) == 1
    left = sql("SELECT id FROM public.invoices")
    sql("DROP TABLE public.invoices")
    assert left == ([] if action == "CASCADE" else [(None,)])


def test_truncate_all_rejects_referenced_tables(provider: Provider, invoices: Engine, database_url: str) -> None:
    """The error names the referring table. No statement fails, so the caller's transaction remains usable."""
    store_workflow(provider, "w1", "a")
    before = contents(database_url)
    with Session(invoices) as session:
        for target in (provider, provider.using(session)):
            with pytest.raises(PersistenceError, match="invoices"):
                target.truncate_all()
        session.execute(delete(Invoice))
        session.execute(text("SELECT 1"))
    assert contents(database_url) == before
