"""A save that changes no indexed column is a heap-only tuple (HOT) update: it writes to no index."""

from typing import Any

import psycopg
import pytest

from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.testing.conformance.support import pointer, workflow

UPDATES = """
    SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)
      FROM pg_class WHERE oid = 'wfc.workflows'::regclass
"""
NOT_INDEXED = {"data": {"paid": True}, "description": "changed", "execution_pointers": [pointer("another")]}
INDEXED = {"next_execution": 9, "reference": "changed"}


def updates_of_save(provider: PostgresPersistenceProvider, url: str, changed: dict[str, Any]) -> tuple[Any, ...] | None:
    """The rows of `workflows` that a save updated, and how many of these updates were HOT."""
    instance: WorkflowInstance = workflow(reference="order 1", root_workflow_id="root")
    provider.create_new_workflow(instance)
    for name, value in changed.items():
        setattr(instance, name, value)
    with psycopg.connect(url) as connection:
        provider.using(connection).persist_workflow(instance)
        return connection.execute(UPDATES).fetchone()


@pytest.mark.parametrize("name", NOT_INDEXED)
def test_save_without_change_of_indexed_column_is_hot_update(
    provider: PostgresPersistenceProvider, database_url: str, name: str
) -> None:
    assert updates_of_save(provider, database_url, {name: NOT_INDEXED[name]}) == (1, 1)


@pytest.mark.parametrize("name", INDEXED)
def test_save_with_change_of_indexed_column_is_no_hot_update(
    provider: PostgresPersistenceProvider, database_url: str, name: str
) -> None:
    assert updates_of_save(provider, database_url, {name: INDEXED[name]}) == (1, 0)
