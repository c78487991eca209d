"""A write whose answer was lost: whether its commit took place or not, it finds out, and is made once."""

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
# The large ones are no other statements, and a purge only does not count the batch whose answer was lost.
CALLS = sorted(name for name in WRITES if "100" not in name and not name.startswith("purge"))


@pytest.mark.parametrize("counted", [ALL[name] for name in CALLS], ids=CALLS)
def test_the_truth_is_found_out(cluster: Cluster, database: str, counted: Counted) -> None:
    """It returns as it does undisturbed, and leaves the same number of rows."""
    name = str(make_url(database).database)
    with PostgresPersistenceProvider(database) as provider:
        left = []
        for disturbed in (False, True):
            provider.truncate_all()
            call = counted.prepare(provider)
            if disturbed:
                with ambiguous_commits(cluster) as ended:
                    call()
                assert ended == [1], "no commit was left waiting"
            else:
                call()
            left.append(cluster.sql(COUNTS, database=name))
    assert left[0] == left[1]
    counters.count("commit acknowledged to nobody", faults=1, acknowledged=1, doubled=0, unknown=0)


@pytest.mark.parametrize("turn", range(runs(2, 50)))
def test_a_creation_is_one(cluster: Cluster, database: str, turn: int) -> None:
    """The workflow is there once; another under its id is refused, and leaves it as it is."""
    with PostgresPersistenceProvider(database) as provider:
        with ambiguous_commits(cluster) as ended:
            assert provider.create_new_workflow(workflow(id="once", data={"turn": turn})) == "once"
        assert ended == [1]
        with pytest.raises(WorkflowExistsError):
            provider.create_new_workflow(workflow(id="once", data={"turn": "another"}))
        assert provider.get_workflow_instance("once").data == {"turn": turn}


ID = "there"

# The write waits in its transaction, which has a number by then and can only end by the crash.
HOLD = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
CREATE TRIGGER hold AFTER INSERT OR UPDATE ON {table} EXECUTE FUNCTION hold();
"""
RELEASE = "DROP FUNCTION hold CASCADE"
HELD = """
SELECT backend_xid::text::bigint FROM pg_stat_activity
 WHERE datname = %s AND application_name = 'wfe_postgres' AND wait_event = 'PgSleep'
"""
NEXT_NUMBER = "SELECT pg_current_xact_id()::text::bigint"
BECAME = "SELECT pg_xact_status(%s::text::xid8)"


@dataclass(frozen=True)
class Write:
    """A write to a table, which `prepare` makes ready, and where it is to be found once."""

    table: str
    prepare: Callable[[PostgresPersistenceProvider], Callable[[], object]]
    found: str = "true"


def a_save(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """Of a loaded workflow."""
    instance = created(provider, workflow(id=ID))
    instance.data = {"saved": True}
    return partial(provider.persist_workflow, instance)


def a_token(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """For an open subscription."""
    provider.create_event_subscription(subscription(id=ID))
    return partial(provider.set_subscription_token, ID, "mine", "worker", from_now(600))


UNDONE = {
    "create_new_workflow": Write("wfc.workflows", lambda it: partial(it.create_new_workflow, workflow(id=ID))),
    "persist_workflow": Write("wfc.workflows", a_save, """data = '{"saved": true}'"""),
    "create_event": Write("wfc.events", lambda it: partial(it.create_event, Event("paid", "1"))),
    "set_subscription_token": Write("wfc.event_subscriptions", a_token, "external_token = 'mine'"),
    "schedule_command": Write(
        "wfc.scheduled_commands",
        lambda it: partial(it.schedule_command, ScheduledCommand.process_workflow(ID, 1)),
    ),
}


@pytest.mark.parametrize("write", UNDONE.values(), ids=UNDONE)
def test_a_transaction_number_that_is_used_again(cluster: Cluster, database: str, write: Write) -> None:
    """A crash undoes the write, another's transaction gets its number and commits: the write is made all the same."""
    name = str(make_url(database).database)
    gate = Gate()

    def wait_for_the_gate(*_: object) -> None:
        gate.wait(TIMEOUT)

    # Nothing may bring the log to the disk, where the crash would leave the number spent.
    with (
        cluster.setting(wal_writer_delay="10s", autovacuum="off"),
        PostgresPersistenceProvider(database) as provider,
        ThreadPoolExecutor(1) as thread,
    ):
        call = write.prepare(provider)
        provider.get_statistics()
        cluster.sql(HOLD.format(table=write.table), database=name)
        # The connection that the call needs is there by now; the one to try again with waits for the others.
        event.listen(provider.engine, "do_connect", wait_for_the_gate)
        under_way = thread.submit(call)
        wait_until(lambda: cluster.sql(HELD, name))
        [(number,)] = cluster.sql(HELD, name)
        cluster.crash()
        cluster.sql(RELEASE, database=name)
        while cluster.sql(NEXT_NUMBER) < [(number,)]:
            pass
        assert cluster.sql(BECAME, number) == [("committed",)], "the number was not used again"
        gate.set()
        under_way.result(TIMEOUT)
    assert cluster.sql(f"SELECT count(*) FROM {write.table} WHERE {write.found}", database=name) == [(1,)]
    counters.count("transaction number used again after a crash", faults=1, acknowledged=1, lost=0, doubled=0)
