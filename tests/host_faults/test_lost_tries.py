"""Steps whose process dies or whose database goes away: lost tries are counted, and innocent workflows go on."""

import os
import signal
import time

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, Refuse, TcpProxy
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, eventually, note, times_of, wait_at
from tests.host_faults.kit.local import errors_of, host_of, pointer_of
from tests.host_faults.kit.processes import HostProcess
from wfe_postgres import PointerStatus, PostgresPersistenceProvider, WorkflowStatus
from wfe_postgres.host import Retry, StepContext, WorkflowBuilder, WorkflowDefinition

MAX_LOST = 5
RETRIES = runs(0, 1)
LEASE = 0.6
INNOCENT = runs(6, 30)


def die(context: StepContext) -> None:
    """Kill the process, as the kernel does when memory runs out; later than a step of `innocent` takes."""
    note(context, "die")
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


def die_twice(context: StepContext) -> None:
    """Kill the process at the first two runs."""
    note(context, "die")
    if times_of(context, "die") <= 2:
        os.kill(os.getpid(), signal.SIGKILL)


def after(context: StepContext) -> None:
    """A step that ends."""
    note(context, "after")


def work(context: StepContext) -> None:
    """A step that others' deaths can interrupt."""
    time.sleep(0.1)
    note(context, "work")


def deadly() -> WorkflowDefinition:
    """Kills every process that runs it."""
    return WorkflowBuilder("deadly", on_error=Retry(0, max_retries=RETRIES)).start_with(die).then(after).build()


def deadly_twice() -> WorkflowDefinition:
    """Kills two processes."""
    return WorkflowBuilder("twice", on_error=Retry(0, max_retries=0)).start_with(die_twice).then(after).build()


def innocent() -> WorkflowDefinition:
    """Four steps that do not fail and may not be retried."""
    builder = WorkflowBuilder("innocent", on_error=Retry(0, max_retries=0)).start_with(work)
    return builder.then(work).then(work).then(work).build()


def keep_alive(hosts: list[HostProcess], start_host: StartHost, definitions: tuple[object, ...]) -> None:
    """Replace the hosts that have died."""
    for number, host in enumerate(hosts):
        if not host.is_alive:
            hosts[number] = start_host(*definitions, lease=LEASE)  # type: ignore[arg-type]


def run_until(
    start_host: StartHost, provider: PostgresPersistenceProvider, id: str, *definitions: object, hosts: int = 1
) -> None:
    """Keep so many hosts alive until the workflow has come to rest."""
    running = [start_host(*definitions, lease=LEASE) for _ in range(hosts)]  # type: ignore[arg-type]

    def rests() -> bool:
        keep_alive(running, start_host, definitions)
        return provider.get_workflow_instance(id).status is not WorkflowStatus.RUNNABLE

    eventually(rests)


def test_step_that_kills_its_process_fails_after_five_lost_tries(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost
) -> None:
    """Each retry has five tries again."""
    id = host_of(provider, deadly()).start_workflow("deadly")
    run_until(start_host, provider, id, deadly)
    workflow = provider.get_workflow_instance(id)
    assert effects.order(id) == ["die"] * MAX_LOST * (1 + RETRIES)
    assert workflow.status is WorkflowStatus.SUSPENDED
    assert pointer_of(workflow, "die").status is PointerStatus.FAILED
    assert len(errors_of(sql, workflow)) >= MAX_LOST


def test_lost_try_is_repeated_without_use_of_a_retry(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, start_host: StartHost
) -> None:
    id = host_of(provider, deadly_twice()).start_workflow("twice")
    run_until(start_host, provider, id, deadly_twice)
    workflow = provider.get_workflow_instance(id)
    assert workflow.status is WorkflowStatus.COMPLETE
    assert effects.order(id) == ["die", "die", "die", "after"]
    assert pointer_of(workflow, "die_twice").retry_count == 0
    assert len(errors_of(sql, workflow)) == 2


def test_neighbours_of_a_step_that_kills_its_process_use_no_retry(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled
) -> None:
    client = host_of(provider, innocent(), deadly())
    ids = [client.start_workflow("innocent") for _ in range(INNOCENT)]
    id = client.start_workflow("deadly")
    run_until(start_host, provider, id, innocent, deadly, hosts=2)
    start_host(innocent, lease=LEASE)
    for workflow in settled(ids):
        assert {pointer.retry_count for pointer in workflow.execution_pointers} == {0}
    assert effects.counts(id) == {"die": MAX_LOST * (1 + RETRIES)}


def end_in_an_outage(context: StepContext) -> None:
    """Wait at the gate, which opens while the database is unavailable."""
    note(context, "began")
    context.data["result"] = times_of(context, "began")
    wait_at("outage")
    note(context, "ended")


def outlasting() -> WorkflowDefinition:
    """A step that ends in the outage, and one after it."""
    return WorkflowBuilder("outage", on_error=Retry(0, max_retries=0)).start_with(end_in_an_outage).then(after).build()


def test_step_that_ended_during_an_outage_is_saved_afterwards(
    provider: PostgresPersistenceProvider,
    sql: Sql,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
) -> None:
    """The outage is longer than the lease, and the provider has given up its retries."""
    with TcpProxy(database_url) as proxy:
        start_host(outlasting, url=proxy.url, provider_options={"retry_budget": 0.1}, lease=LEASE)
        id = host_of(provider, outlasting()).start_workflow("outage")
        effects.wait_for("began")
        proxy.fault = Refuse()
        proxy.cut()
        effects.open("outage")
        effects.wait_for("ended")
        time.sleep(runs(3 * LEASE, 40.0))
        proxy.fault = PASS
        [workflow] = settled([id])
    assert effects.order(id) == ["began", "ended", "after"]
    assert workflow.data == {"result": 1}
    assert errors_of(sql, workflow) == []


def test_step_that_ended_during_an_outage_is_not_saved_over_another_host(
    provider: PostgresPersistenceProvider,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
) -> None:
    """One host alone is cut off; another one takes the step over."""
    with TcpProxy(database_url) as proxy:
        cut_off = start_host(outlasting, url=proxy.url, provider_options={"retry_budget": 0.1}, lease=LEASE)
        id = host_of(provider, outlasting()).start_workflow("outage")
        effects.wait_for("began")
        proxy.fault = Refuse()
        proxy.cut()
        start_host(outlasting, lease=LEASE)
        effects.wait_for("began", 2)
        effects.open("outage")
        [workflow] = settled([id])
        effects.wait_for("ended", 2)
        time.sleep(1.0)  # its save is tried while the host is cut off
        proxy.fault = PASS
        eventually(lambda: [it for it in cut_off.log("WARNING") if it.name == "wfe_postgres.host" and id in it.message])
        time.sleep(0.3)
    assert workflow.data == {"result": 2}
    assert effects.counts(id) == {"began": 2, "ended": 2, "after": 1}
    assert provider.get_workflow_instance(id) == workflow
