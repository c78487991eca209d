"""Neither the plans of the planner nor the rows that were taken make the queue slow; its table does not grow."""

import time
from statistics import median

import psycopg
import pytest

from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.form import LONG
from tests.services.conftest import MakeQueue
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider, queue_statements

WORKFLOW = QueueType.WORKFLOW
FILL = "INSERT INTO wfc.work_queue (queue, id) SELECT 'Workflow', 'w' || i FROM generate_series(1, 20000) i"
READ = """
    SELECT sum(pg_stat_get_xact_tuples_fetched(oid)
               + CASE relkind WHEN 'r' THEN pg_stat_get_xact_tuples_returned(oid) ELSE 0 END)::int
      FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind IN ('r', 'i')
"""
SAMPLES = 20
"""How many ids of a round of 1,000 are moved by the provider."""
SECONDS_A_ROUND = 0.4
"""At least: autovacuum looks once a minute."""
MOVE = """
DO $$ BEGIN
  FOR i IN 1..{0} LOOP
    PERFORM wfc.queue_work('Workflow', '{1}-' || i, 'a_channel');
    COMMIT;
    ASSERT wfc.take_work('Workflow') = '{1}-' || i;
    COMMIT;
  END LOOP;
END $$
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
    """Vacuumed all the time."""
    queue = make_queue()
    sizes: list[int] = []
    for number in range(6):
        for each in range(1000):
            queue.queue_work(f"{number}-{each}", WORKFLOW)
            assert queue.dequeue_work(WORKFLOW) == f"{number}-{each}"
        sql("VACUUM wfc.work_queue")
        sizes.append(size(sql))
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]
    assert sizes[-1] <= 2 * sizes[0]


@pytest.mark.skipif(not LONG, reason="takes about ten minutes")
def test_million_ids_leave_table_and_time_where_they_were(make_queue: MakeQueue, sql: Sql, database_url: str) -> None:
    """Under the server's autovacuum, each id queued and taken in transactions of its own, some by the provider."""
    queue = make_queue()
    sizes, times, pages = [], [], []
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number in range(1000):
            began = time.monotonic()
            connection.execute(MOVE.format(1000 - SAMPLES, number).encode())
            times.append(min(dequeued(queue, f"{number}-of-provider-{each}") for each in range(SAMPLES)))
            queue.queue_work("explained", WORKFLOW)
            [(plan,)] = sql("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT wfc.take_work('Workflow')")
            pages.append(plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"])
            sizes.append(size(sql))
            if number % 100 == 99:
                tenth = slice(-100, None)
                found = max(sizes[tenth]), median(times[tenth]) * 1000, median(pages[tenth])
                text = "{:,} ids queued and taken: {:,} bytes, {:.2f} ms and {:.0f} pages a dequeue"
                counters.measured(text.format((number + 1) * 1000, *found))
            time.sleep(max(0.0, began + SECONDS_A_ROUND - time.monotonic()))
    assert sql("SELECT count(*) FROM wfc.work_queue") == [(0,)]
    assert max(sizes) < 100_000_000
    assert max(sizes[750:]) <= 1.5 * max(sizes[250:500])
    assert median(pages[750:]) <= 2 * median(pages[250:500])
    assert median(times[750:]) <= 2 * median(times[:250])


def dequeued(queue: PostgresQueueProvider, id: str) -> float:
    """How many seconds the provider takes to dequeue the id that it has queued before."""
    queue.queue_work(id, WORKFLOW)
    began = time.monotonic()
    assert queue.dequeue_work(WORKFLOW) == id
    return time.monotonic() - began


def test_depths_are_those_of_what_is_queued(make_queue: MakeQueue) -> None:
    queue = make_queue()
    for id, type in (("a", WORKFLOW), ("b", WORKFLOW), ("a", QueueType.EVENT)):
        queue.queue_work(id, type)
    found = queue._pooled.read(queue_statements.DEPTHS, {})
    assert sorted((name, depth) for name, depth, _ in found) == [("Event", 1), ("Workflow", 2)]
