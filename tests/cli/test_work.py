"""`work` runs an application's host in real processes, stops on signals, and replaces processes that die."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.cli.work_kit import SHOP, WorkProcess
from tests.faults.kit.form import runs
from tests.host_faults.kit.effects import Effects, eventually
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import WorkflowBuilder, WorkflowHost

StartWork = Callable[..., WorkProcess]
StartWorkflows = Callable[..., list[str]]


@pytest.fixture
def effects(database_url: str) -> Iterator[Effects]:
    """What the steps have done."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Effects(connection)


@pytest.fixture
def start_work(tmp_path: Path, database_url: str, effects: Effects) -> Iterator[StartWork]:
    """Starts the command in a folder with the application; what still runs at the end of the test is killed."""
    (tmp_path / "shop.py").write_text(SHOP)
    started: list[WorkProcess] = []

    def start(*arguments: str, target: str = "shop:make_host", lease: float = 600.0) -> WorkProcess:
        started.append(WorkProcess(tmp_path, database_url, target, *arguments, lease=lease))
        return started[-1]

    yield start
    for work in started:
        work.process.kill()
        work.process.wait()
        for pid in work.starts:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def start_workflows(provider: PostgresPersistenceProvider) -> StartWorkflows:
    """Starts workflows of the application, and returns their ids."""

    def nothing(context: object) -> None:
        raise AssertionError

    def definition(id: str, version: int, step: str, number: int) -> WorkflowHost:
        builder = WorkflowBuilder(id, version).start_with(nothing, name=step)
        for _ in range(number - 1):
            builder = builder.then(nothing, name=step)
        return WorkflowHost(provider, [builder.build()])

    clients = {
        "order": definition("order", 2, "work", 3),
        "gate": definition("gate", 1, "stuck", 1),
        "broken": definition("broken", 1, "fail", 1),
    }

    def start(id: str, number: int = 1) -> list[str]:
        return [clients[id].start_workflow(id) for _ in range(number)]

    return start


def wait_for(provider: PostgresPersistenceProvider, id: str, status: WorkflowStatus) -> WorkflowInstance:
    """Wait until the workflow has this status."""
    eventually(lambda: provider.get_workflow_instance(id).status is status)
    return provider.get_workflow_instance(id)


def test_work_runs_the_workflows_and_logs_its_start_and_its_end(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects, provider: PostgresPersistenceProvider
) -> None:
    [id] = start_workflows("order")
    work = start_work("--threads", "3")
    wait_for(provider, id, WorkflowStatus.COMPLETE)
    assert effects.counts() == {"begin": 3, "end": 3}
    assert work.stop() == 0
    pid = work.process.pid
    assert work.lines() == [
        f"process {pid} starts with 3 threads: broken v1, gate v1, order v2",
        "stopping: SIGTERM",
        f"process {pid} has stopped",
    ]


def test_failed_step_is_logged_with_its_traceback_once(
    start_work: StartWork, start_workflows: StartWorkflows, provider: PostgresPersistenceProvider
) -> None:
    [id] = start_workflows("broken")
    work = start_work()
    wait_for(provider, id, WorkflowStatus.SUSPENDED)
    assert work.stop(signal.SIGINT) == 0
    assert work.lines("ERROR") == [f"workflow '{id}', step 'fail' failed (try 1)"]
    assert work.log.count("Traceback (most recent call last)") == work.log.count("the shelf is empty") // 2 == 1
    assert 'raise RuntimeError("the shelf is empty")' in work.log


def test_logging_that_the_application_has_configured_is_left_alone(
    start_work: StartWork, start_workflows: StartWorkflows, provider: PostgresPersistenceProvider, tmp_path: Path
) -> None:
    lines = "import logging\nlogging.basicConfig(level='INFO', format='of the shop: %(message)s')\n"
    (tmp_path / "logged.py").write_text(f"{lines}from shop import *")
    [id] = start_workflows("order")
    work = start_work(target="logged:make_host")
    wait_for(provider, id, WorkflowStatus.COMPLETE)
    assert work.stop() == 0
    assert all(line.startswith("of the shop: ") for line in work.log.splitlines())
    assert f"of the shop: process {work.process.pid} starts with" in work.log


@pytest.mark.parametrize("options", runs([("--processes", "2")], [("--processes", "2"), ()]))
def test_work_that_is_stopped_under_load_cuts_no_step_and_leaves_the_rest_due(
    start_work: StartWork,
    start_workflows: StartWorkflows,
    effects: Effects,
    provider: PostgresPersistenceProvider,
    options: tuple[str, ...],
) -> None:
    """With the long lease, what stays claimed would not be run by the second command."""
    ids = start_workflows("order", 40)
    work = start_work(*options)
    effects.wait_for("end", 10)
    assert work.stop() == 0
    done = effects.counts()
    assert done["begin"] == done["end"] < 120
    assert work.lines("WARNING") == work.lines("ERROR") == []
    start_work(*options)
    for id in ids:
        wait_for(provider, id, WorkflowStatus.COMPLETE)
    assert effects.of_each() == {id: {"begin": 3, "end": 3} for id in ids}


def test_stop_timeout_ends_the_wait_for_a_step(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects
) -> None:
    start_workflows("gate")
    work = start_work("--stop-timeout", "0.3")
    effects.wait_for("begin")
    assert work.stop() == 0
    assert effects.counts() == {"begin": 1}
    [line] = work.lines("WARNING")
    assert line.startswith("1 steps are still running at the end of the timeout")


@pytest.mark.parametrize("options", [(), ("--processes", "2")])
def test_second_signal_ends_the_command_at_once(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects, options: tuple[str, ...]
) -> None:
    start_workflows("gate")
    work = start_work(*options)
    effects.wait_for("begin")
    work.process.terminate()
    eventually(lambda: "stopping: SIGTERM" in work.log)
    assert work.process.poll() is None
    assert work.stop() == 143
    assert effects.counts() == {"begin": 1}
    eventually(lambda: not any(map(is_alive, work.starts)))


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    status = Path(f"/proc/{pid}/stat")
    with suppress(FileNotFoundError, ProcessLookupError):
        return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def test_killed_process_is_replaced_and_its_step_is_repeated(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects, provider: PostgresPersistenceProvider
) -> None:
    work = start_work("--processes", "2", lease=1.0)
    first = work.wait_for_starts(2)
    assert work.process.pid not in first
    [id] = start_workflows("gate")
    effects.wait_for("begin")
    [killed] = effects.pids("begin")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: work.lines("ERROR"))
    assert work.lines("ERROR")[0] == f"process {killed} was ended by SIGKILL; it is replaced in 1 s"
    effects.open("gate")
    wait_for(provider, id, WorkflowStatus.COMPLETE)
    third = work.wait_for_starts(3)[2]
    assert third not in first
    assert work.stop() == 0
    assert not any(map(is_alive, work.starts))


def test_process_that_dies_at_once_is_replaced_after_growing_pauses(start_work: StartWork, tmp_path: Path) -> None:
    work = start_work("--processes", "1")
    [first] = work.wait_for_starts(1)
    (tmp_path / "broken").touch()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(work.lines("ERROR")) >= 2, found=lambda: work.log)
    (tmp_path / "broken").unlink()
    assert [line.partition(" ")[2].partition(" ")[2] for line in work.lines("ERROR")] == [
        "was ended by SIGKILL; it is replaced in 1 s",
        "has ended with exit code 2; it is replaced in 2 s",
    ]
    work.wait_for_starts(2)
    assert work.stop() == 0


def test_signals_to_all_processes_cut_no_step(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects, provider: PostgresPersistenceProvider
) -> None:
    """As systemd sends them by default; each process gets another one from the supervisor."""
    [id] = start_workflows("gate")
    work = start_work("--processes", "2")
    started = work.wait_for_starts(2)
    effects.wait_for("begin")
    for pid in (*started, work.process.pid):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: work.log.count("stopping: ") == 3)
    effects.open("gate")
    assert work.process.wait(30) == 0
    assert effects.counts() == {"begin": 1, "end": 1}
    assert provider.get_workflow_instance(id).status is WorkflowStatus.COMPLETE


def test_processes_stop_when_the_supervisor_was_killed(
    start_work: StartWork, start_workflows: StartWorkflows, effects: Effects
) -> None:
    start_workflows("gate")
    work = start_work("--processes", "2")
    started = work.wait_for_starts(2)
    effects.wait_for("begin")
    work.process.kill()
    eventually(lambda: work.log.count("stopping: the supervisor has ended") == 2)
    effects.open("gate")
    eventually(lambda: not any(map(is_alive, started)))
    assert effects.counts() == {"begin": 1, "end": 1}
