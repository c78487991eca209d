"""Steps whose rows are committed with their result: exactly once, whatever is killed and whenever."""

import itertools
import logging
import random
import time
from contextlib import suppress

import pytest
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, note, note_in_transaction
from tests.host_faults.kit.local import errors_of, host_of, pointer_of
from wfe_postgres import Event, PointerStatus, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, Suspend, WorkflowBuilder, WorkflowDefinition

ORDERS = runs(60, 600)
KILLS = runs(10, 150)
HOSTS = 2
LEASE = 0.8
EXPECTED = {"reserve": 1, "charge": 1, "pack a": 1, "pack b": 1, "ship": 1}


def reserve(context: StepContext) -> None:
    """The first step; its event is committed with it."""
    note_in_transaction(context, "reserve")
    context.data["done"] = ["reserve"]
    context.provider.create_event(Event("reserved", context.workflow.id))


def charge(context: StepContext) -> None:
    """Fails now and then."""
    note_in_transaction(context, "charge")
    context.data["done"].append("charge")
    if random.random() < 0.2:
        raise RuntimeError("the bank does not answer")


def pack(context: StepContext) -> None:
    """A step of a branch."""
    note_in_transaction(context, f"pack {context.item}")
    time.sleep(random.uniform(0, 0.02))


def ship(context: StepContext) -> None:
    """The last step."""
    note_in_transaction(context, "ship")
    context.data["done"].append("ship")


def order() -> WorkflowDefinition:
    """An order with a wait and branches."""
    return (
        WorkflowBuilder("order", on_error=Retry(0.01, max_retries=None))
        .start_with(reserve)
        .wait_for("paid", key=lambda context: context.workflow.id, into="payment")
        .then(charge)
        .for_each(lambda context: ["a", "b"], lambda branch: branch.start_with(pack))
        .then(ship)
        .build()
    )


def test_effects_of_orders_are_there_once_when_hosts_are_killed_at_random_times(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(order, transactional=True, lease=LEASE) for _ in range(HOSTS)]
    client = host_of(provider, order())
    ids = [client.start_workflow("order") for _ in range(ORDERS)]
    paid = iter(ids)
    chance = random.Random(1)
    for _ in range(KILLS):
        for id in itertools.islice(paid, -(-ORDERS // KILLS)):
            client.publish_event("paid", id, {"amount": 10})
        effects.wait_for_more(3)
        time.sleep(chance.uniform(0, 0.2))
        victim = chance.randrange(HOSTS)
        hosts[victim].kill()
        hosts[victim] = start_host(order, transactional=True, lease=LEASE)
    workflows = settled(ids, timeout=runs(60, 900))
    assert effects.of_each() == dict.fromkeys(ids, EXPECTED)
    assert [it.data["done"] for it in workflows] == [["reserve", "charge", "ship"]] * ORDERS
    assert sql("SELECT count(*), count(DISTINCT event_key) FROM wfc.events WHERE event_name = 'reserved'") == [
        (ORDERS, ORDERS)
    ]


def last_for_four_leases(context: StepContext) -> None:
    """A step whose lease is renewed while its transaction is open."""
    note_in_transaction(context, "long")
    time.sleep(2.0)


def long_order() -> WorkflowDefinition:
    """A long step, and one after it."""
    return WorkflowBuilder("long").start_with(last_for_four_leases).then(ship_it).build()


def ship_it(context: StepContext) -> None:
    """The last step."""
    note_in_transaction(context, "ship")


def test_transactional_step_of_four_leases_is_run_once_by_one_of_three_hosts(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    hosts = [start_host(long_order, transactional=True, lease=0.5) for _ in range(3)]
    workflows = settled([host_of(provider, long_order()).start_workflow("long")])
    assert effects.order() == ["long", "ship"]
    assert errors_of(sql, workflows[0]) == []
    assert [line for host in hosts for line in host.log("WARNING", "ERROR")] == []


TERMINATE_ONE = """
    SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'wfe_postgres'
    ORDER BY random() LIMIT 1) AS victim
"""


def test_effects_of_orders_are_there_once_when_connections_are_terminated_at_random_times(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    """In steps, in saves and in commits; a commit whose answer was lost is looked for."""
    for _ in range(HOSTS):
        start_host(order, transactional=True, lease=LEASE)
    client = host_of(provider, order())
    ids = [client.start_workflow("order") for _ in range(ORDERS // 2)]
    for id in ids:
        client.publish_event("paid", id, {"amount": 10})
    terminated = 0
    while terminated < runs(60, 3000) and effects.statuses(ids)["Complete"] < len(ids):
        terminated += sql(TERMINATE_ONE)[0][0]
        time.sleep(random.uniform(0, 0.04))
    settled(ids, timeout=runs(60, 900))
    assert effects.of_each() == dict.fromkeys(ids, EXPECTED)


def test_transaction_of_a_step_that_fails_is_rolled_back_with_its_events(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    def fail(context: StepContext) -> None:
        note_in_transaction(context, "row")
        context.provider.create_event(Event("never", "k"))
        note(context, "outside")
        raise SystemExit

    definition = WorkflowBuilder("failing").start_with(fail, on_error=Retry(0, max_retries=1)).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(provider.engine)))
    id = host.start_workflow("failing")
    host.run_until_idle()
    assert effects.order() == ["outside", "outside"]
    assert sql("SELECT 1 FROM wfc.events") == []
    assert len(errors_of(sql, provider.get_workflow_instance(id))) == 2


def test_transaction_that_the_step_has_broken_fails_the_step(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    """A statement of the application's own failed, and the step ignored that."""

    def break_transaction(context: StepContext) -> None:
        note(context, "ran")
        with pytest.raises(Exception, match="division"):
            context.session.connection().exec_driver_sql("SELECT 1 / 0")

    definition = WorkflowBuilder("broken").start_with(break_transaction, on_error=Retry(0, max_retries=1)).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(provider.engine)))
    id = host.start_workflow("broken")
    host.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert effects.order() == ["ran", "ran"]
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert len(errors_of(sql, workflow)) == 2


def test_commit_that_is_refused_fails_the_step(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects
) -> None:
    """A deferred constraint of the application's own tables is checked by the commit."""
    sql("CREATE TABLE public.seats (number int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    sql("INSERT INTO public.seats VALUES (7)")

    def take_seat(context: StepContext) -> None:
        note(context, "ran")
        context.session.connection().exec_driver_sql("INSERT INTO public.seats VALUES (7)")

    definition = WorkflowBuilder("seats").start_with(take_seat, on_error=Retry(0, max_retries=1)).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(provider.engine)))
    id = host.start_workflow("seats")
    host.run_until_idle()
    workflow = provider.get_workflow_instance(id)
    assert effects.order() == ["ran", "ran"]
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert len(errors_of(sql, workflow)) == 2


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"])
def test_transaction_that_is_not_read_committed_is_refused_before_the_step_runs(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    caplog: pytest.LogCaptureFixture,
    level: str,
) -> None:
    def step(context: StepContext) -> None:
        note(context, "ran")

    engine = provider.engine.execution_options(isolation_level=level)
    definition = WorkflowBuilder("strict").start_with(step, on_error=Suspend()).build()
    host = host_of(provider, definition, transaction=provider.step_transactions(sessionmaker(engine)))
    id = host.start_workflow("strict")
    with caplog.at_level(logging.INFO, "wfe_postgres"), suppress(ValueError):
        host.run_until_idle()
    assert effects.order() == []
    workflow = provider.get_workflow_instance(id)
    assert pointer_of(workflow, "step").status is not PointerStatus.COMPLETE
    assert any("READ COMMITTED" in it for it in [caplog.text, *errors_of(sql, workflow)])
