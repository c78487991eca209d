"""Many hosts, long steps and frozen hosts: each step is run by the host that has claimed its workflow."""

import os
import random
import time

import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import TIMEOUT, Effects, eventually, note, times_of
from tests.host_faults.kit.local import host_of
from tests.provider.databases import statements_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition

WORKFLOWS = runs(100, 400)

# Every update of a workflow takes 30 ms, so that renewals and saves are in progress at the same time.
SLOW_UPDATES = """
    CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END';
    CREATE TRIGGER slow AFTER UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION public.slow()
"""


def first(context: StepContext) -> None:
    """A step."""
    note(context, "first")


def second(context: StepContext) -> None:
    """A step."""
    note(context, "second")


def third(context: StepContext) -> None:
    """A step."""
    note(context, "third")


def three_steps() -> WorkflowDefinition:
    """Three quick steps."""
    return WorkflowBuilder("three").start_with(first).then(second).then(third).build()


def last_for_two_seconds(context: StepContext) -> None:
    """A step that is several leases long."""
    note(context, "long")
    time.sleep(2.0)


def long_step() -> WorkflowDefinition:
    """A long step between two quick ones."""
    return WorkflowBuilder("long").start_with(first).then(last_for_two_seconds).then(third).build()


def wait_until_cancelled(context: StepContext) -> None:
    """The first run waits until the lease is lost; a second one returns at once."""
    note(context, "began")
    context.data["by"] = os.getpid()
    if times_of(context, "began") == 1:
        eventually(lambda: context.cancelled)
        note(context, "cancelled")


def wait_for_the_lease() -> WorkflowDefinition:
    """A step that ends when its lease is lost, and one after it."""
    return WorkflowBuilder("frozen").start_with(wait_until_cancelled).then(third).build()


def last_for_a_while(context: StepContext) -> None:
    """Ends at any time of the renewal's interval."""
    note(context, "short")
    time.sleep(random.uniform(0.0, 0.2))


def six_short_steps() -> WorkflowDefinition:
    """Six steps of which none is much longer than a renewal."""
    builder = WorkflowBuilder("short").start_with(last_for_a_while)
    for _ in range(5):
        builder = builder.then(last_for_a_while)
    return builder.build()


def start(provider: PostgresPersistenceProvider, definition: WorkflowDefinition, number: int) -> list[str]:
    """Start so many workflows, and return their ids."""
    client = host_of(provider, definition)
    return [client.start_workflow(definition.id) for _ in range(number)]


def test_step_due_for_four_hosts_is_run_by_one(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(three_steps, poll_interval=0.02, lease=30) for _ in range(4)]
    ids = start(provider, three_steps(), WORKFLOWS)
    deadline = time.monotonic() + TIMEOUT
    while len(set(effects.pids("first"))) < 2 and time.monotonic() < deadline:
        ids += start(provider, three_steps(), 10)
    settled(ids)
    assert effects.of_each() == {id: {"first": 1, "second": 1, "third": 1} for id in ids}
    assert len(set(effects.pids("first"))) > 1, "one host did everything"
    assert [line for host in hosts for line in host.log("WARNING", "ERROR")] == []


@pytest.mark.parametrize("transactional", [False, True])
def test_workflow_of_three_steps_takes_four_saves_and_one_load(
    provider: PostgresPersistenceProvider, effects: Effects, transactional: bool
) -> None:
    transaction = provider.step_transactions(sessionmaker(provider.engine)) if transactional else None
    host = host_of(provider, three_steps(), transaction=transaction)
    id = host.start_workflow("three")
    with statements_of(provider.engine) as sent:
        host.run_until_idle()
    assert effects.order() == ["first", "second", "third"]
    assert (effects.saves(id), effects.renewals(id)) == (4, 0)
    assert len([it for it in sent if it.startswith("SELECT") and "execution_pointers" in it]) == 1


def test_step_of_four_leases_runs_once_among_three_hosts(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(long_step, lease=0.5) for _ in range(3)]
    [id] = start(provider, long_step(), 1)
    settled([id])
    assert effects.order(id) == ["first", "long", "third"]
    assert effects.renewals(id) >= 3
    assert [line for host in hosts for line in host.log("WARNING", "ERROR")] == []


def test_frozen_host_learns_that_its_lease_is_lost_and_its_save_is_refused(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    frozen = start_host(wait_for_the_lease, lease=2.0)
    [id] = start(provider, wait_for_the_lease(), 1)
    effects.wait_for("began")
    frozen.freeze()
    other = start_host(wait_for_the_lease, lease=5.0)
    [workflow] = settled([id])
    frozen.thaw()
    effects.wait_for("cancelled")
    eventually(lambda: frozen.log("WARNING"))
    time.sleep(0.3)
    assert provider.get_workflow_instance(id) == workflow
    assert workflow.data["by"] == other.pid
    assert effects.counts(id) == {"began": 2, "cancelled": 1, "third": 1}
    warnings = [line.message for line in frozen.log("WARNING") if id in line.message]
    assert any("wait_until_cancelled" in it and any(c.isdigit() for c in it.replace(id, "")) for it in warnings)


def test_host_whose_renewals_and_saves_overlap_reports_no_lost_lease(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    sql(SLOW_UPDATES)
    host = start_host(six_short_steps, lease=0.3, threads=4)
    ids = start(provider, six_short_steps(), runs(12, 200))
    settled(ids, timeout=runs(30, 300))
    assert sum(effects.renewals(id) for id in ids) > 0
    assert {effects.counts(id)["short"] for id in ids} == {6}
    assert host.log("WARNING", "ERROR") == []
