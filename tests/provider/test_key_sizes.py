"""The size limit of ids, names and keys: derived from the indexes, and checked in every call."""

import random
import string
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import sql as compose

from tests.conftest import Sql
from tests.provider.databases import statements_of
from wfe_postgres import (
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
)
from wfe_postgres.codec.validation import MAX_KEY_BYTES
from wfe_postgres.testing.conformance.refusals import refused
from wfe_postgres.testing.conformance.support import at, created, event, from_now, pointer, subscription, workflow

Provider = PostgresPersistenceProvider

# The longest value of text columns that do not contain user input.
LONGEST_VALUES = {"status": "Terminated", "command_name": "ProcessWorkflow"}
OTHER_TYPES = {"bigint": 1, "integer": 1, "boolean": False, "timestamp with time zone": "2030-01-01T00:00:00+00"}

INDEXES = """
    SELECT indexrelid::regclass::text, array_agg(attname::text ORDER BY attnum),
           array_agg(format_type(atttypid, NULL) ORDER BY attnum)
      FROM pg_index JOIN pg_attribute ON attrelid = indexrelid
      JOIN pg_class ON pg_class.oid = indrelid
     WHERE relnamespace = 'wfc'::regnamespace AND relname <> 'alembic_version' AND attnum > 0
     GROUP BY indexrelid ORDER BY 1
"""


def random_text(size: int, seed: int = 0) -> str:
    """Incompressible text of `size` bytes."""
    return "".join(random.Random(seed * 10_000 + size).choices(string.ascii_letters + string.digits, k=size))


def largest(connection: psycopg.Connection[Any], columns: Sequence[str], types: Sequence[str], split: float) -> int:
    """The maximum bytes of user text that fit in an index of these columns, with the share `split` in the first one."""
    free = [name for name, type in zip(columns, types, strict=True) if type == "text" and name not in LONGEST_VALUES]
    connection.execute("DROP TABLE IF EXISTS probe")
    definition = compose.SQL(", ").join(
        compose.SQL(f"{{}} {type}").format(compose.Identifier(name)) for name, type in zip(columns, types, strict=True)
    )
    names = compose.SQL(", ").join(map(compose.Identifier, columns))
    connection.execute(compose.SQL("CREATE TEMP TABLE probe ({})").format(definition))
    connection.execute(compose.SQL("CREATE INDEX ON probe ({})").format(names))
    insert = compose.SQL("INSERT INTO probe VALUES ({})").format(
        compose.SQL(", ").join([compose.Placeholder()] * len(columns))
    )

    def fits(size: int) -> bool:
        first = int(size * split) if len(free) > 1 else size
        texts = dict(zip(free, (random_text(first), random_text(size - first, 1)), strict=False))
        values = [
            texts.get(name) or LONGEST_VALUES.get(name) or OTHER_TYPES[type]
            for name, type in zip(columns, types, strict=True)
        ]
        try:
            with connection.transaction():
                connection.execute(insert, values)
        except psycopg.errors.ProgramLimitExceeded:
            return False
        return True

    low, high = 1000, 4000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def test_limit_fits_in_every_index(database_url: str, sql: Sql) -> None:
    """MAX_KEY_BYTES fits in every index for any split between two columns, and is within 128 bytes of the maximum."""
    measured: dict[str, int] = {}
    with psycopg.connect(database_url) as connection:
        for index, columns, types in sql(INDEXES):
            if any(type == "text" and name not in LONGEST_VALUES for name, type in zip(columns, types, strict=True)):
                measured[index] = min(largest(connection, columns, types, split) for split in (0.001, 0.3, 0.5, 0.999))
        connection.rollback()
    assert len(measured) >= 12
    assert min(measured.values()) >= MAX_KEY_BYTES, measured
    assert min(measured.values()) - MAX_KEY_BYTES < 128, measured


Store = Callable[[Provider, str, str], object]
"""Stores an object with two texts whose sizes are added."""

TOGETHER: dict[str, tuple[str, Store]] = {
    "pointer": (
        "execution_pointers[0].id",
        lambda it, own, key: it.create_new_workflow(workflow(pointer(key), id=own, name="n")),
    ),
    "event": ("event_key", lambda it, name, key: it.create_event(event(event_name=name, event_key=key))),
    "subscription": (
        "event_key",
        lambda it, name, key: it.create_event_subscription(subscription(event_name=name, event_key=key)),
    ),
}


@pytest.mark.parametrize(("path", "store"), TOGETHER.values(), ids=TOGETHER)
@pytest.mark.parametrize("first", [10, MAX_KEY_BYTES // 2, MAX_KEY_BYTES - 10])
def test_total_size_of_two_columns_is_limited(provider: Provider, path: str, store: Store, first: int) -> None:
    """At the limit they are stored; one byte more is rejected before a statement is sent."""
    name, key = random_text(first), random_text(MAX_KEY_BYTES - first, 1)
    with statements_of(provider.engine) as sent, refused(path):
        store(provider, name, key + "x")
    assert sent == []
    store(provider, name, key)


ALONE: dict[str, tuple[str, Callable[[Provider, str], object]]] = {
    "workflow": (
        "id",
        lambda it, text: it.create_new_workflow(workflow(pointer(""), id=text, name=text[:9])),
    ),
    "definition": (
        "workflow_definition_id",
        lambda it, text: it.create_new_workflow(workflow(workflow_definition_id=text)),
    ),
    "root": ("root_workflow_id", lambda it, text: it.create_new_workflow(workflow(root_workflow_id=text))),
    "name": ("name", lambda it, text: it.create_new_workflow(workflow(name=text))),
    "event": ("id", lambda it, text: it.create_event(event(id=text))),
    "subscription": ("id", lambda it, text: it.create_event_subscription(subscription(id=text))),
    "subscription's workflow": (
        "workflow_id",
        lambda it, text: it.create_event_subscription(subscription(workflow_id=text)),
    ),
    "error's workflow": (
        "errors[0].workflow_id",
        lambda it, text: it.persist_errors([ExecutionError(text, "p", "m", error_time=at(0))]),
    ),
    "sequence": ("definition_id", lambda it, text: it.next_definition_sequence(text)),
}


@pytest.mark.parametrize(("path", "store"), ALONE.values(), ids=ALONE)
def test_size_of_a_single_column_is_limited(
    provider: Provider, path: str, store: Callable[[Provider, str], object]
) -> None:
    """At the limit in UTF-8 bytes it is stored; one byte more is rejected before a statement is sent."""
    long = random_text(MAX_KEY_BYTES)
    with statements_of(provider.engine) as sent:
        for text in (long + "x", "ä" * (MAX_KEY_BYTES // 2) + "x", "x" * 100_000):
            with refused(path):
                store(provider, text)
    assert sent == []
    store(provider, long)
    store(provider, "ä" * ((MAX_KEY_BYTES - 2) // 2))


def test_total_size_of_command_name_and_data_is_limited(provider: Provider) -> None:
    """The limit of the data depends on the length of the command name."""
    for make in (ScheduledCommand.process_workflow, ScheduledCommand.process_event):
        name = make("", 0).command_name.value
        data = random_text(MAX_KEY_BYTES - len(name))
        provider.schedule_command(make(data, 0))
        with statements_of(provider.engine) as sent, refused("data"):
            provider.schedule_command(make(data + "x", 0))
        assert sent == []
    assert provider.process_commands(at(0), lambda _: None) == 2


def test_limits_apply_to_saves(provider: Provider) -> None:
    """The limits apply to changed fields and to added pointers and subscriptions."""
    stored = created(provider, workflow())
    remaining = MAX_KEY_BYTES - len(stored.id)
    stored.workflow_definition_id = random_text(MAX_KEY_BYTES)
    stored.execution_pointers.append(pointer(random_text(remaining, 1)))
    provider.persist_workflow_with_subscriptions(
        stored, [subscription(event_name="n", event_key=random_text(MAX_KEY_BYTES - 1))]
    )
    assert provider.get_workflow_instance(stored.id) == stored
    stored.workflow_definition_id += "x"
    with refused("workflow_definition_id", stored):
        provider.persist_workflow(stored)
    stored.workflow_definition_id = "order"
    stored.execution_pointers[-1].id = random_text(remaining + 1, 1)
    with refused(f"execution_pointers[{len(stored.execution_pointers) - 1}].id", stored):
        provider.persist_workflow(stored)
    stored.execution_pointers.pop()
    bad = subscription(event_name="n", event_key=random_text(MAX_KEY_BYTES))
    with refused("subscriptions[0].event_key", stored, bad):
        provider.persist_workflow_with_subscriptions(stored, [bad])


def test_columns_without_an_index_have_no_key_limit(provider: Provider) -> None:
    """References, descriptions, tokens, error messages, step names, and the event names and keys of pointers."""
    long = random_text(100_000)
    stored = created(
        provider,
        workflow(
            pointer("a", step_name=long, event_name=long, event_key=long, predecessor_id=long, scope=[long]),
            description=long,
            reference=long,
        ),
    )
    assert [it.id for it in provider.find_workflows(reference=long).items] == [stored.id]
    assert stored.description == stored.execution_pointers[0].event_key == long
    waiting = subscription(execution_pointer_id=long)
    provider.create_event_subscription(waiting)
    assert provider.set_subscription_token(waiting.id, long, long, from_now(60))
    assert provider.get_subscription(waiting.id).external_token == long
    provider.persist_errors([ExecutionError("w", long, long)])
    assert provider.get_execution_errors()[0].message == long


def test_lookups_accept_oversized_ids(provider: Provider) -> None:
    """Calls that look up an id above the limit return no rows rather than an error."""
    long = random_text(100_000)
    assert provider.get_workflow_instances([long]) == []
    assert provider.get_events(long, long, at(0)) == []
    assert provider.find_workflows(definition_id=long, reference=long).items == []
