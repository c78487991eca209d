"""Hosts that are stopped: no step is cut, none is run twice, and nothing stays claimed."""

import signal
import time

import pytest

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import Refuse, TcpProxy
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, eventually, is_open, note, wait_at
from tests.host_faults.kit.local import host_of
from wfe_postgres import PointerStatus, PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition

WORKFLOWS = runs(40, 400)
LONG_LEASE = 600.0
"""What stays claimed stays so until the test has failed."""

NOT_DUE = "SELECT count(*) FROM wfc.workflows WHERE status = 'Runnable' AND next_execution > %s"
RUNNING = "SELECT count(*) FROM wfc.execution_pointers WHERE status = 'Running'"


def work(context: StepContext) -> None:
    """A step that takes a while."""
    note(context, "begin")
    time.sleep(0.05)
    note(context, "end")


def four_steps() -> WorkflowDefinition:
    """Four steps that take a while."""
    return WorkflowBuilder("four").start_with(work).then(work).then(work).then(work).build()


def stuck(context: StepContext) -> None:
    """A step that ends when the test opens the gate."""
    note(context, "begin")
    wait_at("gate")
    note(context, "end")


def last(context: StepContext) -> None:
    """The step after it."""
    note(context, "last")


def stuck_step() -> WorkflowDefinition:
    """A step that lasts as long as the test wants."""
    return WorkflowBuilder("stuck").start_with(stuck).then(last).build()


def attentive(context: StepContext) -> None:
    """A long step that looks at `cancelled`."""
    note(context, "begin")
    eventually(lambda: context.cancelled or is_open("gate"))
    note(context, "cancelled" if context.cancelled else "end")


def attentive_step() -> WorkflowDefinition:
    """A long step that ends when it is told to."""
    return WorkflowBuilder("attentive").start_with(attentive).then(last).build()


def assert_nothing_is_claimed(sql: Sql) -> None:
    """What has not ended is due, and its pointers are Pending."""
    assert sql(NOT_DUE, [int(time.time() * 1000)]) == [(0,)]
    assert sql(RUNNING) == [(0,)]


@pytest.mark.parametrize("signal_number", runs([signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]))
def test_host_that_is_stopped_under_load_cuts_no_step_and_leaves_the_rest_due(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    signal_number: int,
) -> None:
    """Three hosts one after the other; with the long lease, one that leaves a claim would block the next."""
    client = host_of(provider, four_steps())
    ids = [client.start_workflow("four") for _ in range(WORKFLOWS)]
    for turn in range(1, 3):
        host = start_host(four_steps, lease=LONG_LEASE)
        effects.wait_for("end", turn * WORKFLOWS)
        host.terminate(signal_number)
        assert host.wait() == 0
        assert effects.counts()["begin"] == effects.counts()["end"] < 4 * WORKFLOWS
        assert_nothing_is_claimed(sql)
        assert host.log("WARNING", "ERROR") == []
    start_host(four_steps, lease=LONG_LEASE)
    settled(ids)
    assert effects.of_each() == {id: {"begin": 4, "end": 4} for id in ids}


def test_host_that_is_stopped_does_not_claim_the_step_after_the_running_one(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost
) -> None:
    id = host_of(provider, stuck_step()).start_workflow("stuck")
    host = start_host(stuck_step, lease=LONG_LEASE)
    effects.wait_for("begin")
    host.terminate()
    assert host.wait(0.5) is None
    effects.open("gate")
    assert host.wait() == 0
    assert effects.order() == ["begin", "end"]
    statuses = {it.step_name: it.status for it in provider.get_workflow_instance(id).execution_pointers}
    assert statuses == {"stuck": PointerStatus.COMPLETE, "last": PointerStatus.PENDING}
    assert_nothing_is_claimed(sql)


def test_second_signal_ends_the_host_at_once(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost
) -> None:
    host_of(provider, stuck_step()).start_workflow("stuck")
    host = start_host(stuck_step)
    effects.wait_for("begin")
    host.terminate()
    assert host.wait(0.5) is None
    host.terminate()
    assert host.wait() not in (None, 0)
    assert effects.order() == ["begin"]


def test_step_that_looks_at_cancelled_learns_that_the_host_is_stopping(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost
) -> None:
    host_of(provider, attentive_step()).start_workflow("attentive")
    host = start_host(attentive_step, lease=LONG_LEASE)
    effects.wait_for("begin")
    host.terminate(signal.SIGINT)
    assert host.wait() == 0
    assert effects.order() == ["begin", "cancelled"]


def test_stop_gives_up_a_step_after_its_timeout_and_another_host_runs_it(
    provider: PostgresPersistenceProvider, effects: Effects, settled: Settled, start_host: StartHost
) -> None:
    host = host_of(provider, stuck_step(), lease=0.6)
    id = host.start_workflow("stuck")
    host.start()
    effects.wait_for("begin")
    host.stop(timeout=0.2)
    assert effects.order() == ["begin"]
    start_host(stuck_step)
    effects.wait_for("begin", 2)
    effects.open("gate")
    settled([id])
    effects.wait_for("end", 2)
    assert effects.counts() == {"begin": 2, "end": 2, "last": 1}


def test_host_can_be_stopped_twice_and_before_it_was_started(
    provider: PostgresPersistenceProvider, effects: Effects
) -> None:
    host = host_of(provider, four_steps())
    host.stop()
    host.start()
    host.stop()
    host.stop()


def test_idle_host_stops_while_the_database_is_unavailable(
    provider: PostgresPersistenceProvider,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
) -> None:
    with TcpProxy(database_url) as proxy:
        host = start_host(four_steps, url=proxy.url, provider_options={"retry_budget": 0.1})
        settled([host_of(provider, four_steps()).start_workflow("four")])
        proxy.fault = Refuse()
        proxy.cut()
        time.sleep(0.5)
        host.terminate()
        assert host.wait() == 0


def test_host_stops_while_the_database_is_unavailable(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, database_url: str
) -> None:
    with TcpProxy(database_url) as proxy:
        host = start_host(attentive_step, url=proxy.url, provider_options={"retry_budget": 0.1})
        host_of(provider, attentive_step()).start_workflow("attentive")
        effects.wait_for("begin")
        proxy.fault = Refuse()
        proxy.cut()
        time.sleep(0.3)
        host.terminate()
        time.sleep(0.3)
        host.terminate()
        assert host.wait() is not None
