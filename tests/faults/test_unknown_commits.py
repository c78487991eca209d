"""Writes whose answer was lost: the call determines whether the commit succeeded, and takes effect once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Event as Gate

import pytest
from sqlalchemy import event, make_url

from tests.faults.kit import counters
from tests.faults.kit.ambiguous import ambiguous_commits
from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.protocol.calls import ALL, Counted
from tests.protocol.test_durable import WRITES
from tests.provider.databases import wait_until
from wfe_postgres import Event, PostgresPersistenceProvider, ScheduledCommand, WorkflowExistsError
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import TIMEOUT, created, from_now, subscription, workflow

COUNTS = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in Base.metadata.sorted_tables)
# Without the large calls, which execute the same statements, and purges, which do not count the lost batch.
CALLS = sorted(name for name in WRITES if "100" not in name and not name.startswith("purge"))


@pytest.mark.parametrize("counted", [ALL[name] for name in CALLS], ids=CALLS)
def test_write_takes_effect_once_when_its_commit_is_not_acknowledged(
    cluster: Cluster, database: str, counted: Counted
) -> None:
    """The call returns normally and stores the same number of rows as without the fault."""
    name = str(make_url(database).database)
    with PostgresPersistenceProvider(database) as provider:
        counts = []
        for with_fault in (False, True):
            provider.truncate_all()
            call = counted.prepare(provider)
            if with_fault:
                with ambiguous_commits(cluster) as ended:
                    call()
                assert ended == [1], "no commit waited for the standby"
            else:
                call()
            counts.append(cluster.sql(COUNTS, database=name))
    assert counts[0] == counts[1]
    counters.count("commit not acknowledged", faults=1, acknowledged=1, duplicated=0, unknown=0)


@pytest.mark.parametrize("turn", range(runs(2, 50)))
def test_workflow_is_created_once_when_the_commit_is_not_acknowledged(
    cluster: Cluster, database: str, turn: int
) -> None:
    """A second workflow with the id is rejected and does not change the first."""
    with PostgresPersistenceProvider(database) as provider:
        with ambiguous_commits(cluster) as ended:
            assert provider.create_new_workflow(workflow(id="once", data={"turn": turn})) == "once"
        assert ended == [1]
        with pytest.raises(WorkflowExistsError):
            provider.create_new_workflow(workflow(id="once", data={"turn": "another"}))
        assert provider.get_workflow_instance("once").data == {"turn": turn}


ID = "there"

# The write waits in its transaction, which has a transaction id by then, until the server crashes.
HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
CREATE TRIGGER hold AFTER INSERT OR UPDATE ON {table} EXECUTE FUNCTION hold();
"""
RELEASE = "DROP FUNCTION hold CASCADE"
HELD = """
SELECT backend_xid::text::bigint FROM pg_stat_activity
 WHERE datname = %s AND application_name = 'wfe_postgres' AND wait_event = 'PgSleep'
"""
NEXT_TRANSACTION_ID = "SELECT pg_current_xact_id()::text::bigint"
STATUS = "SELECT pg_xact_status(%s::text::xid8)"


@dataclass(frozen=True)
class Write:
    """A write to a table; `prepare` returns the call, `found` is the condition of the stored row."""

    table: str
    prepare: Callable[[PostgresPersistenceProvider], Callable[[], object]]
    found: str = "true"


def prepare_save(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """Return a save of a loaded workflow."""
    instance = created(provider, workflow(id=ID))
    instance.data = {"saved": True}
    return partial(provider.persist_workflow, instance)


def prepare_token(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """Return a call that sets the token of an open subscription."""
    provider.create_event_subscription(subscription(id=ID))
    return partial(provider.set_subscription_token, ID, "mine", "worker", from_now(600))


ROLLED_BACK = {
    "create_new_workflow": Write("wfc.workflows", lambda it: partial(it.create_new_workflow, workflow(id=ID))),
    "persist_workflow": Write("wfc.workflows", prepare_save, """data = '{"saved": true}'"""),
    "create_event": Write("wfc.events", lambda it: partial(it.create_event, Event("paid", "1"))),
    "set_subscription_token": Write("wfc.event_subscriptions", prepare_token, "external_token = 'mine'"),
    "schedule_command": Write(
        "wfc.scheduled_commands",
        lambda it: partial(it.schedule_command, ScheduledCommand.process_workflow(ID, 1)),
    ),
}


@pytest.mark.parametrize("write", ROLLED_BACK.values(), ids=ROLLED_BACK)
def test_write_is_retried_when_its_transaction_id_is_reused_after_a_crash(
    cluster: Cluster, database: str, write: Write
) -> None:
    """The crash rolls the write back; another transaction gets the same id and commits. The write is still retried."""
    name = str(make_url(database).database)
    gate = Gate()

    def wait_for_gate(*_: object) -> None:
        gate.wait(TIMEOUT)

    # The WAL must not be flushed before the crash: a flushed transaction id would not be reused.
    with (
        cluster.setting(wal_writer_delay="10s", autovacuum="off"),
        PostgresPersistenceProvider(database) as provider,
        ThreadPoolExecutor(1) as thread,
    ):
        call = write.prepare(provider)
        provider.get_statistics()
        cluster.sql(HOLD.format(table=write.table), database=name)
        # The pool already has the connection of the call; the connection of the retry waits for the gate.
        event.listen(provider.engine, "do_connect", wait_for_gate)
        pending = thread.submit(call)
        wait_until(lambda: cluster.sql(HELD, name))
        [(transaction_id,)] = cluster.sql(HELD, name)
        cluster.crash()
        cluster.sql(RELEASE, database=name)
        while cluster.sql(NEXT_TRANSACTION_ID) < [(transaction_id,)]:
            pass
        assert cluster.sql(STATUS, transaction_id) == [("committed",)], "the transaction id was not reused"
        gate.set()
        pending.result(TIMEOUT)
    assert cluster.sql(f"SELECT count(*) FROM {write.table} WHERE {write.found}", database=name) == [(1,)]
    counters.count("transaction id reused after a crash", faults=1, acknowledged=1, lost=0, duplicated=0)
