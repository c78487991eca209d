"""The module and the commands of the page on workers run a workflow, and stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.docs.pages import blocks, program, session
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import WorkflowBuilder, WorkflowHost

PAGE = "how-to/worker.md"
TIMEOUT = 60


def test_worker_of_the_page_runs_a_workflow_and_stops(empty_database_url: str, tmp_path: Path) -> None:
    """The module is `shop.py`; the last command runs until SIGTERM."""
    (tmp_path / "shop.py").write_text(program(blocks(PAGE, "python")))
    *before, last = session(blocks(PAGE, "console"))[0]
    environment = os.environ | {
        "WFE_DATABASE_URL": empty_database_url,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    for command in before:
        subprocess.run(command.split(), env=environment, cwd=tmp_path, check=True, capture_output=True)
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(last.split(), env=environment, cwd=tmp_path, stderr=log)
    try:
        with PostgresPersistenceProvider(empty_database_url) as provider:
            client = WorkflowHost(provider, [WorkflowBuilder("order").start_with(print, name="ship").build()])
            done = client.wait_for_workflow(client.start_workflow("order"), timeout=TIMEOUT)
        assert done.data == {"shipped": True}
        wait_for(tmp_path / "log", "starts with", count=2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(TIMEOUT) == 0
    finally:
        worker.kill()
        worker.wait()
    assert "step 'ship': shipped" in (tmp_path / "log").read_text()


@contextmanager
def servers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that run until the end of the block."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        for server in started:
            server.kill()
            server.wait()


def wait_for(log: Path, text: str, *, count: int) -> None:
    """Wait until the text is in the file so many times."""
    deadline = time.monotonic() + TIMEOUT
    while log.read_text().count(text) < count:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
