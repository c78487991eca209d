"""A Rust host reads the pointers of a workflow without ORDER BY, and takes them in the order in which they come.

From an analysed table they come by an index scan or by a bitmap scan, as the planner estimates: in the order of that
index, or of the table.
"""

import random
from uuid import uuid4

import psycopg
import pytest
from alembic import command

from tests.compatibility.rust_host import RustHost, ids_of, rust_host, rust_workflow
from tests.conftest import Sql
from tests.migrations.stores import RUST_LAYOUT, alembic, differences, upgrade_store
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import created, pointer, workflow

OTHERS = """
    INSERT INTO wfc.workflows (id, name, definition_id, version, status, create_time)
      SELECT number, number, 'order', 1, 'Complete', now() FROM (
        SELECT lpad(n::text, 5, '0') AS number FROM generate_series(1, 4000) n) AS numbers;
    INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status)
      SELECT gen_random_uuid(), w.id, 1, 'Complete' FROM wfc.workflows w, generate_series(1, 6) ORDER BY {order};
"""
ORDERS = {"Index Scan": "w.id", "Bitmap Heap Scan": "md5(w.id)"}
"""The order of the rows in the table, by the plan to which it leads."""
NO_BITMAP_SCANS = "-c enable_bitmapscan=off -c enable_seqscan=off"
MODES = ["force_custom_plan", "force_generic_plan"]

Store = tuple[str, dict[str, list[str]]]
"""The URL, and the ids of the pointers of each workflow in their order."""


def adopted_store(url: str, sql: Sql, plan: str) -> Store:
    """A store that a Rust host filled and this library then upgraded."""
    sql(RUST_LAYOUT)
    sql(OTHERS.format(order=ORDERS[plan]))
    stored = {f"workflow-{number}": [str(uuid4()) for _ in range(6)] for number in range(8)}
    with rust_host(url) as rust:
        for id, ids in stored.items():
            rust_workflow(rust, *ids, id=id)
    sql("ANALYZE")
    upgrade_store(url)
    return url, stored


def check_order(store: Store, mode: str, *, plan: str, options: str = "") -> None:
    """Read the pointers as a Rust host does, with this plan."""
    url, stored = store
    read = "SELECT * FROM wfc.execution_pointers WHERE workflow_id = $1"
    with psycopg.connect(url, autocommit=True, options=f"-c plan_cache_mode={mode} {options}") as connection:
        connection.execute(f"PREPARE read AS {read}".encode())
        for id, ids in stored.items():
            shown = connection.execute(f"EXPLAIN EXECUTE read ('{id}')".encode()).fetchall()
            found = connection.execute(f"EXECUTE read ('{id}')".encode()).fetchall()
            assert shown[0][0].startswith(plan)
            assert "idx_execution_pointers_position" in str(shown)
            assert [row[0] for row in found] == ids


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plan", ORDERS)
def test_pointers_of_adopted_store_are_read_in_order(empty_database_url: str, sql: Sql, plan: str, mode: str) -> None:
    check_order(adopted_store(empty_database_url, sql, plan), mode, plan=plan)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("plan", "options"), [("Index Scan", ""), ("Bitmap Heap Scan", NO_BITMAP_SCANS)])
def test_pointers_saved_by_this_library_are_read_in_order_of_the_index(
    empty_database_url: str, sql: Sql, plan: str, options: str, mode: str
) -> None:
    """Added, moved and removed, by complete saves and by those that send changes only."""
    url, stored = adopted_store(empty_database_url, sql, plan)
    rng = random.Random(4)
    with PostgresPersistenceProvider(url) as provider:
        for id, ids in stored.items():
            instance = provider.get_workflow_instance(id)
            assert ids_of(instance) == ids
            for turn in range(6):
                pointers = instance.execution_pointers
                pointers.insert(rng.choice([len(pointers), rng.randint(0, len(pointers))]), pointer(str(uuid4())))
                rng.choice(pointers).retry_count += 1
                pointers.pop(rng.randrange(len(pointers)))
                if turn % 3 == 0:
                    instance.revision = None
                provider.persist_workflow(instance)
            stored[id] = ids_of(instance)
    sql("ANALYZE")
    check_order((url, stored), mode, plan="Index Scan", options=options)


def test_pointers_that_a_rust_host_adds_come_last(provider: PostgresPersistenceProvider, rust: RustHost) -> None:
    """In a workflow of this library, and after those that this library has added to the Rust host's."""
    ours = created(provider, workflow(pointer("a"), pointer("b")))
    for turn in range(3):
        add(rust, ours.id, f"rust-{turn}", f"rust-{turn}-more")
        ours = provider.get_workflow_instance(ours.id)
        ours.execution_pointers.append(pointer(f"ours-{turn}"))
        provider.persist_workflow(ours)
    add(rust, ours.id, "last")
    expected = [
        f"{it}-{turn}{more}" for turn in range(3) for it, more in (("rust", ""), ("rust", "-more"), ("ours", ""))
    ]
    assert ids_of(provider.get_workflow_instance(ours.id)) == ["a", "b", *expected, "last"]


def add(rust: RustHost, workflow_id: str, *ids: str) -> None:
    """Insert pointers without touching those that are there."""
    for id in ids:
        rust.run(
            "INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status) VALUES (%s, %s, 0, 'Pending')",
            id,
            workflow_id,
        )


def test_sequence_begins_after_our_positions_when_the_store_was_emptied(
    provider: PostgresPersistenceProvider, rust: RustHost
) -> None:
    provider.truncate_all()
    test_pointers_that_a_rust_host_adds_come_last(provider, rust)


def test_sequence_goes_on_when_the_store_was_downgraded_and_upgraded(database_url: str, rust: RustHost) -> None:
    rust_workflow(rust, "a", "b")
    alembic(database_url, command.downgrade, "0007")
    add(rust, "rust", "c")
    upgrade_store(database_url)
    add(rust, "rust", "d")
    with PostgresPersistenceProvider(database_url) as provider:
        assert ids_of(provider.get_workflow_instance("rust")) == ["a", "b", "c", "d"]
    assert differences(database_url) == []
