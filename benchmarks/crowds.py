"""Fills a store with hundreds of thousands of unrelated workflows."""

import json

from benchmarks.implementations.baseline import connect
from benchmarks.plan import Plan
from wfe_postgres import PostgresPersistenceProvider

# Of ten workflows, six are complete and one is suspended, with times in the past; three are due in the far future.
_WORKFLOWS = """
INSERT INTO wfc.workflows (id, name, definition_id, version, status, data, next_execution, create_time, complete_time)
SELECT 'crowd-' || n, 'crowd-' || n, 'order', 1,
       CASE WHEN n %% 10 < 6 THEN 'Complete' WHEN n %% 10 = 6 THEN 'Suspended' ELSE 'Runnable' END,
       %(data)s::jsonb,
       CASE WHEN n %% 10 < 7 THEN n ELSE 4000000000000 + n END,
       timestamptz '2025-01-01 00:00+00' + n * interval '1 second',
       CASE WHEN n %% 10 < 6 THEN timestamptz '2025-02-01 00:00+00' + n * interval '1 second' END
  FROM generate_series(1, %(count)s::int) AS n
"""
_POINTERS = """
INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, active, status, start_time, end_time, step_name,
                                    persistence_data, outcome, position)
SELECT n || '-' || p, 'crowd-' || n, p, false, 'Complete', now(), now(), 'step ' || p, %(kept)s::jsonb,
       %(outcome)s::jsonb, p * 1048576
  FROM generate_series(1, %(count)s::int) AS n, generate_series(1, %(pointers)s::int) AS p
"""
_SUBSCRIPTIONS = """
INSERT INTO wfc.event_subscriptions (id, workflow_id, step_id, execution_pointer_id, event_name, event_key,
                                     subscribe_as_of)
SELECT 'subscription-' || n, 'crowd-' || n, 1, n || '-1', 'order.paid', 'O-' || n, now()
  FROM generate_series(1, %(count)s::int, 5) AS n
"""
_ERRORS = """
INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message)
SELECT now(), 'crowd-' || n, n || '-1', 'ValueError: the card was declined'
  FROM generate_series(1, %(count)s::int, 5) AS n
"""

# Dropped during the load and validated once at the end, which is much faster.
_DROP_FOREIGN_KEY = "ALTER TABLE wfc.execution_pointers DROP CONSTRAINT execution_pointers_workflow_id_fkey"
_ADD_FOREIGN_KEY = """
ALTER TABLE wfc.execution_pointers ADD CONSTRAINT execution_pointers_workflow_id_fkey
  FOREIGN KEY (workflow_id) REFERENCES wfc.workflows (id)
"""


def fill(url: str, plan: Plan) -> None:
    """Create the store and fill it; vacuum and analyze it, as autovacuum would."""
    with PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()
    params = {
        "count": plan.crowd,
        "pointers": plan.pointers_in_crowd,
        "data": json.dumps({"customer": "C-10021", "lines": [{"sku": "A-1", "quantity": 2, "price": 1995}]}),
        "kept": json.dumps({"attempt": 1, "worker": "host-1"}),
        "outcome": json.dumps({"charged": {"amount": 1995, "currency": "EUR"}, "note": "as ordered"}),
    }
    with connect(url) as connection:
        connection.execute(_DROP_FOREIGN_KEY)
        for statement in (_WORKFLOWS, _POINTERS, _SUBSCRIPTIONS, _ERRORS):
            connection.execute(statement, params)
        connection.execute(_ADD_FOREIGN_KEY)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
