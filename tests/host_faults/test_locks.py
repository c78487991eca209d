"""Hosts in processes that share locks on PostgreSQL: a lock that was lost counts as a lost lease."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import Silence, TcpProxy
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, eventually, note, wait_at
from tests.host_faults.kit.local import errors_of, host_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowDefinition
from wfe_postgres.services import PostgresLockProvider

LEASE = 1.5
"""Of the locks; the workflows' own leases are so long that nothing is due to them."""
LONG_LEASE = 300.0
WORKFLOWS = runs(30, 400)
HELD = "SELECT resource FROM wfc.lock_leases WHERE expires_at > clock_timestamp()"


def gated(context: StepContext) -> None:
    """A step that lasts until the test opens the gate."""
    note(context, "gated")
    context.data["done"] = True
    wait_at("gate")


def gated_failure(context: StepContext) -> None:
    """The same, and then it fails."""
    gated(context)
    raise RuntimeError("after the gate")


def until_cancelled(context: StepContext) -> None:
    """A step that ends when it is cancelled."""
    note(context, "gated")
    context.data["done"] = True
    eventually(lambda: context.cancelled)
    note(context, "cancelled")


def after(context: StepContext) -> None:
    """A quick step."""
    note(context, "after")


def gated_step() -> WorkflowDefinition:
    """A long step, and one after it."""
    return WorkflowBuilder("gated").start_with(gated).then(after).build()


def failing_step() -> WorkflowDefinition:
    """A long step that fails."""
    return WorkflowBuilder("gated", on_error=Retry(0)).start_with(gated_failure).then(after).build()


def cancelled_step() -> WorkflowDefinition:
    """A step that watches whether it is cancelled."""
    return WorkflowBuilder("gated").start_with(until_cancelled).then(after).build()


def two_steps() -> WorkflowDefinition:
    """Two quick steps."""
    return WorkflowBuilder("two").start_with(after).then(after).build()


@pytest.fixture
def locks(database_url: str) -> Iterator[PostgresLockProvider]:
    """Whom the hosts share their locks with."""
    locks = PostgresLockProvider(database_url)
    yield locks
    locks.close()


@pytest.mark.parametrize("definition", [gated_step, failing_step], ids=["returns", "raises"])
@pytest.mark.parametrize("transactional", [False, True])
def test_host_that_was_frozen_past_the_lease_of_its_lock_saves_nothing(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    start_host: StartHost,
    locks: PostgresLockProvider,
    definition: type,
    transactional: bool,
) -> None:
    """Although nobody has changed the workflow, and its own lease has not ended."""
    host = start_host(definition, locks={"lease": LEASE}, lease=LONG_LEASE, transactional=transactional)
    id = host_of(provider, definition()).start_workflow("gated")
    effects.wait_for("gated")
    claimed = provider.get_workflow_instance(id)
    host.freeze()
    eventually(lambda: locks.acquire_lock(id))
    host.thaw()
    effects.open("gate")
    eventually(lambda: [it for it in host.log("WARNING") if id in it.message and "somebody else after" in it.message])
    time.sleep(0.5)
    workflow = provider.get_workflow_instance(id)
    assert (workflow, workflow.revision) == (claimed, claimed.revision)
    assert errors_of(sql, workflow) == []
    assert locks.is_held(id)
    assert effects.order(id) == ["gated"]


def test_step_of_a_host_that_is_cut_off_from_its_locks_is_cancelled(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, database_url: str
) -> None:
    """The store can still be reached."""
    with TcpProxy(database_url) as proxy:
        start_host(cancelled_step, locks={"url": proxy.url, "lease": LEASE, "call_timeout": 2.0}, lease=LONG_LEASE)
        id = host_of(provider, cancelled_step()).start_workflow("gated")
        effects.wait_for("gated")
        proxy.fault = Silence(requests=False)
        effects.wait_for("cancelled")
        time.sleep(0.5)
    assert provider.get_workflow_instance(id).data == {}
    assert effects.order(id) == ["gated", "cancelled"]


def test_workflow_of_a_killed_host_is_run_when_both_leases_have_ended(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(gated_step, locks={"lease": LEASE}, lease=LEASE) for _ in range(2)]
    id = host_of(provider, gated_step()).start_workflow("gated")
    effects.wait_for("gated")
    [killed] = [it for it in hosts if it.pid == effects.pids("gated")[0]]
    killed.kill()
    effects.wait_for("gated", 2)
    effects.open("gate")
    settled([id])
    assert effects.order(id) == ["gated", "gated", "after"]


def test_hosts_that_share_locks_run_each_step_once_and_leave_no_lock(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(two_steps, locks={}) for _ in range(3)]
    client = host_of(provider, two_steps())
    ids = [client.start_workflow("two") for _ in range(WORKFLOWS)]
    settled(ids)
    assert effects.of_each() == {id: Counter(after=2) for id in ids}
    for host in hosts:
        host.terminate()
    assert [host.wait() for host in hosts] == [0] * 3
    assert sql(HELD) == []


def test_host_that_is_stopped_releases_the_lock_of_a_step_that_goes_on(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, locks: PostgresLockProvider
) -> None:
    """Its late result is not saved."""
    mine = PostgresLockProvider.from_engine(provider.engine)
    host = host_of(provider, gated_step(), lock=mine, lease=LONG_LEASE)
    host.start()
    id = host.start_workflow("gated")
    effects.wait_for("gated")
    claimed = provider.get_workflow_instance(id)
    host.stop(timeout=0.1)
    assert locks.acquire_lock(id)
    effects.open("gate")
    time.sleep(0.5)
    workflow = provider.get_workflow_instance(id)
    assert (workflow, workflow.revision) == (claimed, claimed.revision)
