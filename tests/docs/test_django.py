"""The project of the page on Django: its commands, its web server, its worker, its checks and its test."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Sql
from tests.docs.pages import PAGES, blocks, session
from tests.docs.test_worker import TIMEOUT, servers, wait_for
from tests.host_faults.kit.effects import eventually
from wfe_postgres.ext.django.conf import KEYS

PAGE = "how-to/django.md"
_, STARTPROJECT, STARTAPP, _, *COMMANDS = session(blocks(PAGE, "console"))[0]
SERVERS = ("runserver", "wfe_work")


@pytest.fixture
def project(empty_database_url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of the commands, in a folder with the project of the page."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"WFE_DATABASE_URL": empty_database_url, "PATH": path, "PYTHONUNBUFFERED": "1"}
    for command in (STARTPROJECT, STARTAPP):
        subprocess.run(command.split(), env=environment, cwd=tmp_path, check=True)
    for block in blocks(PAGE, "python"):
        name, _, text = block.text.removeprefix("# ").partition("\n")
        with (tmp_path / name).open("a" if name.endswith("settings.py") else "w") as file:
            file.write(text)
    return environment


def manage(project: dict[str, str], folder: Path, *arguments: str) -> str:
    """What `manage.py` prints."""
    command = [sys.executable, "-W", "error", "manage.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=project, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_commands_of_the_page_ship_an_order(project: dict[str, str], tmp_path: Path, sql: Sql) -> None:
    """In their order; the web server takes any free port instead of 8000."""
    port = ""
    with servers() as started:
        for number, command in enumerate(COMMANDS):
            log = tmp_path / f"log{number}"
            typed = command.replace(":8000", f":{port}")
            typed += " --noreload 0" if command.endswith("runserver") else ""
            with log.open("w") as output:
                running = subprocess.Popen(typed.split(), cwd=tmp_path, env=project, stdout=output, stderr=output)
            if not command.endswith(SERVERS):
                assert running.wait(TIMEOUT) == 0, log.read_text()
                continue
            started.append(running)
            if command.endswith("runserver"):
                port = port_of(log)
            else:
                wait_for(log, "starts with", count=1)
        eventually(lambda: sql("SELECT number FROM shop_order WHERE shipped AND paid") == [("4711",)])
        started[1].send_signal(signal.SIGTERM)
        assert started[1].wait(TIMEOUT) == 0


def port_of(log: Path) -> str:
    """The port that the web server says it has."""
    wait_for(log, "Starting development server", count=1)
    found = re.search(r"server at http://127\.0\.0\.1:(\d+)", log.read_text())
    assert found is not None
    return found[1]


def test_test_and_checks_of_the_page_pass(project: dict[str, str], tmp_path: Path, sql: Sql) -> None:
    """The database of the settings is not touched by the test."""
    manage(project, tmp_path, "makemigrations", "shop")
    assert "Ran 1 test" in manage(project, tmp_path, "test", "--noinput")
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'wfc'") == []
    manage(project, tmp_path, "migrate")
    manage(project, tmp_path, "wfe_check")
    assert "no issues" in manage(project, tmp_path, "check", "--database", "default")


def test_page_has_every_key_of_the_setting() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \|", PAGES[PAGE], re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(KEYS)
