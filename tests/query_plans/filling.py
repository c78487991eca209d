"""A store as it looks after a year of use: most workflows are finished, and few are due."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url

# Of 50,000 workflows, 40,000 are complete, 2,000 terminated, and 5,000 suspended with a past next_execution. Of the
# 3,000 runnable ones, 500 are due, 500 have no next_execution, and 2,000 are due in the future. `place` shuffles the
# statuses, so that they do not correlate with the physical order or the times.
FILL = """
SET synchronous_commit = off;
INSERT INTO wfc.workflows (id, name, root_workflow_id, definition_id, version, description, reference, status, data,
    next_execution, create_time, complete_time, last_heartbeat_at)
SELECT 'w' || i, 'name ' || i, CASE WHEN i % 10 = 0 THEN 'w' || i / 50 END,
    CASE WHEN i % 5000 = 0 THEN 'rare' ELSE 'definition ' || i % 10 END, i % 3,
    'a description', CASE WHEN i % 5 > 0 THEN 'order ' || i END,
    CASE WHEN place < 40000 THEN 'Complete' WHEN place < 42000 THEN 'Terminated' WHEN place < 47000 THEN 'Suspended'
        ELSE 'Runnable' END,
    jsonb_build_object('order', i, 'lines', repeat('x', 200)),
    CASE WHEN place < 47500 THEN place WHEN place >= 48000 THEN 9000000000000 + place END,
    '2025-01-01Z'::timestamptz + i * interval '10 minutes',
    CASE WHEN place < 42000 THEN '2025-01-02Z'::timestamptz + i * interval '10 minutes' END, now()
FROM generate_series(1, 50000) i, LATERAL (SELECT i * 7919 % 50000 AS place) AS shuffled;
INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status, step_name, persistence_data)
SELECT 'p' || j, 'w' || i, j, CASE WHEN j < 4 THEN 'Complete' ELSE 'Running' END, 'step ' || j, '{"tries": 1}'
FROM generate_series(1, 50000) i, generate_series(1, 4) j;
INSERT INTO wfc.events (id, event_name, event_key, event_data, event_time, is_processed)
SELECT 'e' || i, 'event ' || i % 20, 'key ' || i % 12500, '{"paid": true}',
    '2025-01-01Z'::timestamptz + i * interval '10 minutes', i <= 49000
FROM generate_series(1, 50000) i;
INSERT INTO wfc.event_subscriptions (id, workflow_id, step_id, execution_pointer_id, event_name, event_key,
    subscribe_as_of, external_token, external_worker_id, external_token_expiry)
SELECT 's' || i, 'w' || 40000 + i % 10000, 1, 'p1', 'event ' || i % 20, 'key ' || i % 10000,
    '2025-01-01Z'::timestamptz + i * interval '10 minutes', CASE WHEN i % 9 = 0 THEN 'token' END,
    CASE WHEN i % 9 = 0 THEN 'worker' END, CASE WHEN i % 9 = 0 THEN now() + interval '1 hour' END
FROM generate_series(1, 20000) i;
INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message, nonce)
SELECT '2025-01-01Z'::timestamptz + i * interval '10 minutes', 'w' || i % 5000, 'p1', repeat('wrong ', 20), i
FROM generate_series(1, 20000) i;
INSERT INTO wfc.scheduled_commands (command_name, data, execute_time)
SELECT 'ProcessWorkflow', 'w' || i, CASE WHEN i <= 1000 THEN i ELSE 9000000000000 + i END
FROM generate_series(1, 20000) i;
UPDATE wfc.scheduled_commands SET claim = id, claimed_until = now() + interval '1 hour' WHERE id <= 20;
INSERT INTO wfc.lock_leases SELECT 'lock ' || i, i, now(), now() + i * interval '1 second' - interval '3 hours'
FROM generate_series(1, 20000) i;
INSERT INTO wfc.lifecycle_payloads (payload, created_at)
SELECT repeat('x', 9000), now() - i * interval '1 second' FROM generate_series(1, 2000) i;
INSERT INTO wfc.work_queue (queue, id)
SELECT CASE i % 2 WHEN 0 THEN 'Workflow' ELSE 'Event' END, 'id ' || i FROM generate_series(1, 20000) i;
INSERT INTO wfc.definition_sequences SELECT 'definition ' || i, i FROM generate_series(1, 5000) i;
ANALYZE
"""
TABLES = (
    "workflows",
    "execution_pointers",
    "events",
    "event_subscriptions",
    "execution_errors",
    "scheduled_commands",
    "definition_sequences",
    "lock_leases",
    "lifecycle_payloads",
    "work_queue",
)


@contextmanager
def filled_database(server: str, template: str) -> Iterator[psycopg.Connection]:
    """A connection to a new database with a filled and analyzed store; the database is dropped at the end.

    The tables are not vacuumed: in a busy store few pages are all-visible, so index-only scans still read the table.
    """
    name = f"wfe_{uuid4().hex}"
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    database = sql.Identifier(name)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(template)))
        try:
            with psycopg.connect(url, autocommit=True) as connection:
                for table in TABLES:
                    connection.execute(
                        sql.SQL("ALTER TABLE wfc.{} SET (autovacuum_enabled = off)").format(sql.SQL(table))
                    )
                connection.execute(FILL)
                yield connection
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
