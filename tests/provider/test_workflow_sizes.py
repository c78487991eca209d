"""A workflow that is too large to be read back: saves refuse it, and loads name it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tests.provider.databases import nothing_sent
from wfe_postgres import CorruptRowError, PostgresPersistenceProvider, SerializationError, WorkflowInstance
from wfe_postgres.testing.conformance.support import created, pointer, workflow

Provider = PostgresPersistenceProvider
LIMIT = 10_000
PART = "x" * 3_000


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wfe_postgres.codec.change_tracking.MAX_WORKFLOW_BYTES", LIMIT)


def with_parts(count: int, **values: Any) -> WorkflowInstance:
    """A workflow with so many pointers of 3,000 bytes."""
    return workflow(*(pointer(f"p{number}", outcome=PART) for number in range(count)), **values)


def saved_in_parts(provider: Provider, count: int) -> WorkflowInstance:
    """The same, stored by one save for each pointer, so that each sends one pointer."""
    instance = created(provider, workflow())
    instance.execution_pointers = []
    for number in range(count):
        instance.execution_pointers.append(pointer(f"p{number}", outcome=PART))
        provider.persist_workflow(instance)
    return instance


def another_pointer(instance: WorkflowInstance) -> None:
    instance.execution_pointers.append(pointer("more", outcome=PART))


GROWTHS: dict[str, Callable[[WorkflowInstance], None]] = {
    "a pointer": another_pointer,
    "data": lambda it: setattr(it, "data", PART),
    "a value": lambda it: setattr(it.execution_pointers[1], "persistence_data", PART),
    "a text": lambda it: setattr(it.execution_pointers[1], "step_name", PART),
}


@pytest.mark.parametrize("grow", GROWTHS.values(), ids=GROWTHS)
@pytest.mark.parametrize("is_loaded", [True, False])
def test_save_that_makes_a_workflow_too_large_is_refused(
    provider: Provider, database_url: str, is_loaded: bool, grow: Callable[[WorkflowInstance], None]
) -> None:
    """Also one that sends only the small part that has changed, after a load and after saves."""
    instance = saved_in_parts(provider, 3)
    if is_loaded:
        instance = provider.get_workflow_instance(instance.id)
    grow(instance)
    with nothing_sent(provider, database_url), pytest.raises(SerializationError, match=r"1[0-9]{4} bytes") as caught:
        provider.persist_workflow(instance)
    assert caught.value.path == "execution_pointers"


def test_creation_and_complete_save_of_a_too_large_workflow_are_refused(provider: Provider, database_url: str) -> None:
    stored = created(provider, workflow())
    with nothing_sent(provider, database_url):
        for revision in (None, int(stored.revision or 0)):
            with pytest.raises(SerializationError, match="read back"):
                provider.persist_workflow(replace(with_parts(4), id=stored.id, name=stored.name, revision=revision))
        with pytest.raises(SerializationError, match="read back"):
            provider.create_new_workflow(with_parts(4))


def test_size_follows_what_is_replaced_and_removed(provider: Provider) -> None:
    """Many saves of a workflow that stays small are never refused."""
    instance = saved_in_parts(provider, 3)
    for number in range(20):
        instance.execution_pointers[0].outcome = f"{number % 10}" * 3_000
        instance.execution_pointers[1:] = [pointer(f"q{number}", outcome=PART)]
        instance.data = f"{number % 10}" * 2_500
        provider.persist_workflow(instance)
    assert provider.get_workflow_instance(instance.id).data == instance.data


def test_workflow_that_is_too_large_can_be_made_smaller(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Rust host can store such a workflow."""
    stored = saved_in_parts(provider, 3)
    monkeypatch.setattr("wfe_postgres.codec.change_tracking.MAX_WORKFLOW_BYTES", 5_000)
    instance = provider.get_workflow_instance(stored.id)
    instance.execution_pointers.pop()
    provider.persist_workflow(instance)
    assert len(provider.get_workflow_instance(stored.id).execution_pointers) == 2


TOO_LARGE = """
    CREATE FUNCTION wfc.is_readable(id text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
      IF id = 'large' THEN RAISE program_limit_exceeded; END IF; RETURN true; END $$;
    ALTER TABLE wfc.execution_pointers RENAME TO pointers_;
    CREATE VIEW wfc.execution_pointers AS SELECT ctid, * FROM wfc.pointers_ WHERE wfc.is_readable(workflow_id)
"""


@pytest.fixture
def with_large(own_database: str) -> Iterator[Provider]:
    """Three workflows of which PostgreSQL cannot return one: its text would take more than 1 GiB."""
    with Provider(own_database) as provider:
        for id in ("a", "large", "b"):
            provider.create_new_workflow(workflow(id=id, name=f"name of {id}"))
        with psycopg.connect(own_database, autocommit=True) as connection:
            connection.execute(TOO_LARGE)
        yield provider


def test_load_of_a_too_large_workflow_names_it(with_large: Provider) -> None:
    loads = (with_large.get_workflow_instance, "large"), (with_large.get_workflow_instance_by_name, "name of large")
    for load, of in loads:
        with pytest.raises(CorruptRowError, match=of) as caught:
            load(of)
        assert (caught.value.table, caught.value.column) == ("workflows", "execution_pointers")
        assert caught.value.__context__ is None
    assert with_large.get_workflow_instance("a").id == "a"


def test_list_leaves_a_too_large_workflow_out(with_large: Provider, caplog: pytest.LogCaptureFixture) -> None:
    found = with_large.get_workflow_instances(["b", "large", "unknown", "a"])
    assert [it.id for it in found] == ["b", "a"]
    assert "large" in caplog.text
    assert with_large.get_workflow_instances(["large"]) == []
