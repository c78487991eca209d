"""JSON null and SQL NULL in optional JSON columns are two things, which no save of something else changes."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import Sql
from wfe_postgres import JSON_NULL, PostgresPersistenceProvider, SerializationError, WorkflowInstance
from wfe_postgres.testing.conformance.support import created, event, pointer, subscription, workflow

Provider = PostgresPersistenceProvider

OPTIONAL = ("persistence_data", "event_data", "context_item", "outcome")
POINTERS = "SELECT id, persistence_data::text, event_data::text, context_item::text, outcome::text"
NULLS = dict.fromkeys(OPTIONAL, JSON_NULL)


def stored(sql: Sql) -> dict[str, list[str | None]]:
    """The four columns of each pointer as text: "null" is JSON null, None is SQL NULL."""
    return {id: columns for id, *columns in sql(f"{POINTERS} FROM wfc.execution_pointers")}


def from_rust(provider: Provider, sql: Sql) -> WorkflowInstance:
    """A loaded workflow in whose first pointer every optional column holds JSON null."""
    id = provider.create_new_workflow(workflow(pointer("a", persistence_data=None), pointer("b")))
    columns = ", ".join(f"{name} = 'null'" for name in OPTIONAL)
    sql(f"UPDATE wfc.execution_pointers SET {columns} WHERE id = 'a'")
    return provider.get_workflow_instance(id)


@pytest.mark.parametrize("name", OPTIONAL)
def test_json_null_that_was_loaded_is_kept_by_a_save_of_another_field(provider: Provider, sql: Sql, name: str) -> None:
    instance = from_rust(provider, sql)
    for number in range(2):
        instance.execution_pointers[0].step_name = f"changed {number}"
        setattr(instance.execution_pointers[0], name, number)
        provider.persist_workflow(instance)
    expected = ["1" if column == name else "null" for column in OPTIONAL]
    assert stored(sql)["a"] == expected
    assert provider.get_workflow_instance(instance.id) == instance


def test_value_set_to_none_becomes_sql_null(provider: Provider, sql: Sql) -> None:
    instance = created(provider, workflow(pointer("a", persistence_data=None, outcome=1, event_data=2)))
    instance.execution_pointers[0].outcome = None
    instance.execution_pointers[0].event_data = JSON_NULL
    provider.persist_workflow(instance)
    assert stored(sql)["a"] == [None, "null", None, None]


def test_json_null_that_was_replaced_is_forgotten(provider: Provider, sql: Sql) -> None:
    instance = from_rust(provider, sql)
    for value in (1, None):
        instance.execution_pointers[0].outcome = value
        provider.persist_workflow(instance)
    assert stored(sql)["a"] == ["null", "null", "null", None]


def test_json_null_survives_a_renewal(provider: Provider, sql: Sql) -> None:
    instance = from_rust(provider, sql)
    assert instance.revision is not None
    instance.revision = provider.renew_workflow(instance.id, instance.revision, 5)
    instance.execution_pointers[0].step_name = "changed"
    provider.persist_workflow(instance)
    assert stored(sql)["a"] == ["null"] * 4


@pytest.mark.parametrize("known", [True, False], ids=["loaded", "without a revision"])
def test_reordering_save_keeps_json_null_only_if_it_was_loaded(provider: Provider, sql: Sql, known: bool) -> None:
    instance = from_rust(provider, sql)
    if not known:
        instance = replace(instance, revision=None)
    instance.execution_pointers.reverse()
    provider.persist_workflow(instance)
    assert stored(sql)["a"] == ["null" if known else None] * 4


def test_json_null_is_stored_by_each_way_in(provider: Provider, sql: Sql) -> None:
    instance = workflow(pointer("created", **NULLS))
    provider.create_new_workflow(instance)
    instance.execution_pointers.append(pointer("saved", **NULLS))
    waiting = [subscription(id="saved", subscription_data=JSON_NULL)]
    provider.persist_workflow_with_subscriptions(instance, waiting)
    provider.create_event_subscription(subscription(id="created", subscription_data=JSON_NULL))
    provider.create_event(event(id="event", event_data=JSON_NULL))
    assert stored(sql) == {"created": ["null"] * 4, "saved": ["null"] * 4}
    assert sql("SELECT subscription_data::text FROM wfc.event_subscriptions") == [("null",)] * 2
    assert sql("SELECT event_data::text FROM wfc.events") == [("null",)]


@pytest.mark.parametrize("published", [True, False])
def test_event_data_of_a_published_pointer_is_never_sql_null(provider: Provider, sql: Sql, published: bool) -> None:
    values: dict[str, Any] = {"persistence_data": None, "event_published": published}
    instance = created(provider, workflow(pointer("created", **values), pointer("saved", event_data=1)))
    saved = instance.execution_pointers[1]
    saved.event_published, saved.event_data = published, None
    provider.persist_workflow(instance)
    expected = "null" if published else None
    assert [columns[1] for columns in stored(sql).values()] == [expected, expected]
    provider.persist_workflow(replace(provider.get_workflow_instance(instance.id), revision=None))
    assert [columns[1] for columns in stored(sql).values()] == [expected, expected]


def test_json_null_inside_a_value_is_refused(provider: Provider) -> None:
    with pytest.raises(SerializationError) as caught:
        provider.create_new_workflow(workflow(data={"inner": [JSON_NULL]}))
    assert caught.value.path == "data.inner[0]"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copy_of_json_null_is_json_null(duplicate: Any) -> None:
    assert duplicate(JSON_NULL) is JSON_NULL
    assert repr(JSON_NULL) == "JSON_NULL"


def test_large_value_is_not_read_to_tell_json_null(provider: Provider, sql: Sql) -> None:
    """A large value that holds nothing but a text comes back; only a small one is compared with null."""
    large = "x" * 1_000_000
    instance = created(provider, workflow(pointer("a", persistence_data=large, outcome=JSON_NULL)))
    assert instance.execution_pointers[0].persistence_data == large
    instance.execution_pointers[0].step_name = "changed"
    provider.persist_workflow(instance)
    assert sql("SELECT outcome::text FROM wfc.execution_pointers") == [("null",)]
