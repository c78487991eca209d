"""The database goes away and comes back, and hosts whose clock is wrong."""

import itertools
import multiprocessing
import time
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Sql
from tests.faults.kit.clock import Clock
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, Fault, Refuse, Silence, TcpProxy
from tests.host_faults.conftest import Settled, StartHost
from tests.host_faults.kit.effects import Effects, note
from tests.host_faults.kit.local import host_of
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowDefinition

OUTAGE = runs(3.0, 10.0)
MINUTE = 60
NEAR = {"retry_budget": 0.1, "call_timeout": 1.0}
"""The provider gives up before the outage is over."""


def work(context: StepContext) -> None:
    """A step."""
    note(context, "work")


def two_steps() -> WorkflowDefinition:
    """Two steps."""
    return WorkflowBuilder("two").start_with(work).then(work).build()


@pytest.mark.parametrize("fault", [Refuse(), Silence(requests=False)], ids=["refused", "silent"])
def test_host_goes_on_after_an_outage_and_logs_its_begin_and_its_end(
    provider: PostgresPersistenceProvider,
    effects: Effects,
    start_host: StartHost,
    settled: Settled,
    database_url: str,
    fault: Fault,
) -> None:
    client = host_of(provider, two_steps())
    with TcpProxy(database_url) as proxy:
        host = start_host(two_steps, url=proxy.url, provider_options=NEAR)
        settled([client.start_workflow("two")])
        for turn in range(1, runs(2, 4)):
            before = len(host.log("INFO", "WARNING", "ERROR"))
            proxy.fault = fault
            if isinstance(fault, Refuse):
                proxy.cut()
            ids = [client.start_workflow("two") for _ in range(5)]
            time.sleep(OUTAGE)
            proxy.fault = PASS
            if not isinstance(fault, Refuse):
                proxy.cut()
            settled(ids)
            time.sleep(0.3)
            logged = [it for it in host.log()[before:] if it.name.startswith("wfe_postgres.host")]
            assert len(logged) == 2, (turn, logged)
            assert host.is_alive


def test_host_that_starts_during_an_outage_waits_for_its_end(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled, database_url: str
) -> None:
    id = host_of(provider, two_steps()).start_workflow("two")
    with TcpProxy(database_url) as proxy:
        proxy.fault = Refuse()
        host = start_host(two_steps, url=proxy.url, provider_options=NEAR)
        time.sleep(1.0)
        assert host.is_alive
        proxy.fault = PASS
        settled([id])


def test_waiting_host_does_not_ask_without_pause(
    provider: PostgresPersistenceProvider, effects: Effects, start_host: StartHost, settled: Settled, database_url: str
) -> None:
    with TcpProxy(database_url) as proxy:
        start_host(two_steps, url=proxy.url, provider_options={"retry_budget": 0.0}, threads=4)
        settled([host_of(provider, two_steps()).start_workflow("two")])
        proxy.fault = Refuse()
        proxy.cut()
        before = proxy.connections
        time.sleep(2.0)
        assert proxy.connections - before < 200


@pytest.mark.parametrize("ahead", [11.0, -11.0])
def test_host_does_not_start_when_its_clock_is_off_by_more_than_a_third_of_the_lease(
    provider: PostgresPersistenceProvider, effects: Effects, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    monkeypatch.setattr(provider, "get_clock_offset", lambda: ahead)
    host = host_of(provider, two_steps(), lease=30.0)
    host.start_workflow("two")
    with pytest.raises(Exception, match="clock"):
        host.start()
    host.stop()
    assert effects.order() == []
    with host_of(provider, two_steps(), lease=34.0):
        effects.wait_for("work", 2)


def test_host_starts_when_only_the_first_measurement_of_its_clock_was_disturbed(
    provider: PostgresPersistenceProvider, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that the first connection took."""
    offsets = itertools.chain([-11.0], itertools.repeat(0.1))
    monkeypatch.setattr(provider, "get_clock_offset", lambda: next(offsets))
    host_of(provider, two_steps()).start_workflow("two")
    with host_of(provider, two_steps(), lease=30.0):
        effects.wait_for("work", 2)


def start_and_report(url: str, pipe: "Pipe[Any, Any]") -> None:
    """Start a host, and send the type and the text of the exception."""
    with PostgresPersistenceProvider(url) as provider:
        try:
            host_of(provider, two_steps(), lease=30.0).start()
        except Exception as error:
            pipe.send((type(error).__name__, str(error)))
        else:
            pipe.send(None)


@pytest.mark.parametrize("ahead", runs([MINUTE], [MINUTE, -MINUTE]))
def test_host_on_a_machine_with_a_wrong_clock_does_not_start(
    provider: PostgresPersistenceProvider, sql: Sql, effects: Effects, tmp_path: Path, database_url: str, ahead: int
) -> None:
    context = multiprocessing.get_context("spawn")
    pipe, far_end = context.Pipe()
    process = context.Process(target=start_and_report, args=(database_url, far_end), daemon=True)
    with Clock(tmp_path / "clock", ahead).followed():
        process.start()
    far_end.close()
    try:
        assert pipe.poll(30)
        answer = pipe.recv()
    finally:
        process.kill()
        process.join()
    assert answer is not None
    assert "clock" in answer[1]
