"""The application of the page on Flask: its commands, its web server, its worker, and its test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Sql
from tests.docs.pages import PAGES, blocks, session
from tests.docs.test_worker import TIMEOUT, servers, wait_for
from tests.host_faults.kit.effects import eventually

PAGE = "how-to/flask.md"
MODULE, STATUS, TESTS = (block.text for block in blocks(PAGE, "python"))
COMMANDS = session(blocks(PAGE, "console"))[0]
SERVERS = [command for command in COMMANDS if command.endswith((" run", " work"))]


@pytest.fixture
def environment(empty_database_url: str, tmp_path: Path) -> dict[str, str]:
    """Of the commands, in a folder with the application."""
    (tmp_path / "shop.py").write_text(f"{MODULE}\n\n{STATUS}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"WFE_DATABASE_URL": empty_database_url, "PATH": path, "FLASK_RUN_PORT": "0"}


def test_commands_of_the_page_ship_an_order(environment: dict[str, str], tmp_path: Path, sql: Sql) -> None:
    """In their order; the web server takes any free port instead of 5000."""
    port = ""
    with servers() as started:
        for number, command in enumerate(COMMANDS[2:]):
            log = tmp_path / f"log{number}"
            with log.open("w") as output:
                running = subprocess.Popen(
                    command.replace(":5000", f":{port}").split(),
                    cwd=tmp_path,
                    env=environment,
                    stdout=output,
                    stderr=output,
                )
            if command not in SERVERS:
                assert running.wait(TIMEOUT) == 0, log.read_text()
                continue
            started.append(running)
            wait_for(log, "starts with" if command.endswith("work") else "Running on", count=1)
            port = port or log.read_text().partition("Running on http://127.0.0.1:")[2].split()[0]
        eventually(lambda: sql("SELECT number FROM public.order WHERE shipped AND paid") == [("4711",)])
        started[1].send_signal(signal.SIGTERM)
        assert started[1].wait(TIMEOUT) == 0


def test_test_of_the_page_passes(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_processes_of_the_page_are_commands_of_the_application() -> None:
    """What systemd and the containers run."""
    assert "flask --app shop wfe work --processes 2\n" in PAGES[PAGE]
    for command in ("flask, --app, shop, wfe, upgrade", "flask, --app, shop, wfe, work"):
        assert f"command: [{command}]\n" in PAGES[PAGE]
