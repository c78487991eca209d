"""The statements of the services, with parameters for the filled store."""

from tests.query_plans.finds import Case
from wfe_postgres.services import lifecycle_statements as lifecycle
from wfe_postgres.services import lock_statements as locks
from wfe_postgres.services import queue_statements as queue

LOCK = {"lock_leases_pkey"}
MINE = {"resources": [f"lock {number}" for number in range(15_000, 15_050)], "holders": list(range(15_000, 15_050))}
WORK = {"queue": "Workflow", "id": "new", "channel": "c"}
ACQUIRE = {"holder": 7, "lease": 30.0}

SERVICE_CASES = [
    Case("acquire a free lock", locks.ACQUIRE, ACQUIRE | {"resource": "free"}, LOCK, 2),
    Case("acquire a busy lock", locks.ACQUIRE, ACQUIRE | {"resource": "lock 15000"}, LOCK, 2),
    Case("acquire a lock that has ended", locks.ACQUIRE, ACQUIRE | {"resource": "lock 15"}, LOCK, 2),
    Case("renew 50 locks", locks.RENEW, MINE | {"lease": 30.0}, LOCK, 50),
    Case("release a lock", locks.RELEASE, {"resource": "lock 15000", "holder": 15_000}, LOCK, 1),
    Case("release 50 locks", locks.RELEASE_ALL, MINE, LOCK, 50),
    Case("notify", lifecycle.NOTIFY, {"channel": "c", "payload": "{}"}, set(), 1),
    Case(
        "notify by reference",
        lifecycle.NOTIFY_BY_REFERENCE,
        {"channel": "c", "prefix": "#", "payload": "{}"},
        {"lifecycle_payloads_pkey"},
        20,
    ),
    Case("get a payload", lifecycle.PAYLOAD, {"id": 700}, {"lifecycle_payloads_pkey"}, 1),
    # What the functions read is counted by tests/services/test_queue_growth.py.
    Case("queue", queue.QUEUE, WORK, set(), 1),
    Case("queue in a transaction", queue.QUEUE_IN_TRANSACTION, WORK, set(), 1),
    Case("take from the queue", queue.TAKE, {"queue": "Workflow"}, set(), 1),
]
