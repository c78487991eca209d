"""Neither the plans of the planner nor the rows that were taken make the queue slow; its table does not grow."""

import time

import psycopg
import pytest

from tests.conftest import Sql
from tests.faults.kit.form import LONG, runs
from tests.services.conftest import MakeQueue
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import queue_statements

WORKFLOW = QueueType.WORKFLOW
FILL = "INSERT INTO wfc.work_queue (queue, id) SELECT 'Workflow', 'w' || i FROM generate_series(1, 20000) i"
READ = """
    SELECT sum(pg_stat_get_xact_tuples_fetched(oid)
               + CASE relkind WHEN 'r' THEN pg_stat_get_xact_tuples_returned(oid) ELSE 0 END)::int
      FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind IN ('r', 'i')
"""
# In each state a planner that may choose prefers to read the whole table.
BEFORE = {
    "new": "",
    "vacuumed while empty": "VACUUM ANALYZE wfc.work_queue",
    "vacuumed with 60 rows": "INSERT INTO wfc.work_queue (queue, id) SELECT 'Event', i FROM generate_series(1, 60) i",
}


@pytest.mark.parametrize("before", BEFORE)
def test_few_rows_are_read_whatever_the_planner_believes(database_url: str, before: str) -> None:
    """With the plans that the session has from a time at which the queue was empty."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(BEFORE[before].encode())
        connection.execute("VACUUM ANALYZE wfc.work_queue") if before != "new" else None
        calls = ("SELECT wfc.queue_work('Workflow', 'new', 'c')", "SELECT wfc.take_work('Workflow')")
        for _ in range(20):
            for call in calls:
                connection.execute(call.encode())
        connection.execute(FILL.encode())
        for call in (*calls, *calls):
            with connection.transaction():
                [first] = connection.execute(READ.encode()).fetchone() or (0,)
                connection.execute(call.encode())
                [then] = connection.execute(READ.encode()).fetchone() or (0,)
            assert then - first <= 130, call
        [there] = connection.execute("SELECT count(*) FROM wfc.work_queue WHERE queue = 'Workflow'").fetchone() or (0,)
        assert there == 20_000 + 1 - 2


def size(sql: Sql) -> int:
    """Of the table with its indexes, in bytes."""
    [(found,)] = sql("SELECT pg_total_relation_size('wfc.work_queue')")
    return int(found)


def test_table_does_not_grow_with_what_was_queued(make_queue: MakeQueue, sql: Sql) -> None:
    """Vacuumed all the time; in the long form, 1,000,000 ids under autovacuum."""
    queue, rounds = make_queue(), runs(6, 1000)
    sizes, times = [], []
    for number in range(rounds):
        began = time.monotonic()
        for each in range(1000):
            queue.queue_work(f"{number}-{each}", WORKFLOW)
            assert queue.dequeue_work(WORKFLOW) == f"{number}-{each}"
        times.append(time.monotonic() - began)
        if not LONG:
            sql("VACUUM wfc.work_queue")
        sizes.append(size(sql))
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]
    if LONG:
        quarter = rounds // 4
        assert max(sizes) < 100_000_000
        assert max(sizes[-quarter:]) <= 1.5 * max(sizes[quarter : 2 * quarter])
        assert sorted(times[-quarter:])[quarter // 2] <= 2 * sorted(times[:quarter])[quarter // 2]
    else:
        assert sizes[-1] <= 2 * sizes[0]


def test_depths_are_those_of_what_is_queued(make_queue: MakeQueue) -> None:
    queue = make_queue()
    for id, type in (("a", WORKFLOW), ("b", WORKFLOW), ("a", QueueType.EVENT)):
        queue.queue_work(id, type)
    found = queue._runner.read(queue_statements.DEPTHS, {})
    assert sorted((name, depth) for name, depth, _ in found) == [("Event", 1), ("Workflow", 2)]
