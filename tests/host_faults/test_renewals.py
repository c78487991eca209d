"""Renewals whose answer is lost, and renewals during an outage: the result of the step is saved all the same."""

import time

import pytest

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, Fault, Refuse, Silence, TcpProxy
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, note, wait_at
from tests.host_faults.kit.local import errors_of, host_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition

LEASE = 1.2
OUTAGES: dict[str, Fault] = {"answers lost": Silence(), "refused": Refuse(), "silent": Silence(requests=False)}


def long(context: StepContext) -> None:
    """Lasts until the test opens the gate."""
    note(context, "long")
    context.data["done"] = True
    wait_at("gate")


def after(context: StepContext) -> None:
    """The step after it."""
    note(context, "after")


def long_step() -> WorkflowDefinition:
    """A long step, and one after it."""
    return WorkflowBuilder("long").start_with(long).then(after).build()


@pytest.mark.parametrize(("kind", "ends"), [*((kind, "during") for kind in OUTAGES), ("answers lost", "after")])
def test_step_is_saved_when_renewals_were_disturbed_and_nobody_took_the_workflow(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
    kind: str,
    ends: str,
) -> None:
    """With the answers lost, the renewals are committed; the host must know them as its own. `ends`: the step."""
    with TcpProxy(database_url) as proxy:
        host = start_host(
            long_step, url=proxy.url, provider_options={"retry_budget": 0.1, "call_timeout": 0.4}, lease=LEASE
        )
        id = host_of(provider, long_step()).start_workflow("long")
        effects.wait_for("long")
        while not effects.renewals(id):
            time.sleep(0.01)
        proxy.fault = OUTAGES[kind]
        if kind == "refused":
            proxy.cut()
        time.sleep(runs(1.0, 5.0))
        if ends == "during":
            effects.open("gate")
            time.sleep(1.0)
        proxy.fault = PASS
        proxy.cut()
        if ends == "after":
            time.sleep(LEASE / 2)
            effects.open("gate")
        [workflow] = settled([id])
    assert effects.order(id) == ["long", "after"]
    assert workflow.data == {"done": True}
    assert errors_of(sql, workflow) == []
    assert [line for line in host.log("WARNING") if "changed by somebody else" in line.message] == []
