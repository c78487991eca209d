"""The default prefork mode of uWSGI: the application is loaded once, then C code forks the workers."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.faults.kit import counters
from tests.faults.kit.form import runs

REQUESTS = runs(300, 3000)
WORKERS = 3

APPLICATION = """
import os

from wfe_postgres import Event, PostgresPersistenceProvider, WorkflowInstance

provider = PostgresPersistenceProvider(os.environ["WFE_DATABASE_URL"])
for number in range(20):  # on a connection of the master, which the workers inherit
    provider.create_new_workflow(WorkflowInstance("order", 1, {"number": number}, id=str(number)))


def application(environ, start_response):
    name = environ["QUERY_STRING"]
    number = int(name) % 20
    right = all(provider.get_workflow_instance(str(number)).data == {"number": number} for _ in range(10))
    event = provider.get_event(provider.create_event(Event(name, "1", {"name": name})))
    right = right and event.event_data == {"name": name}
    start_response("200 OK" if right else "500 Wrong answer", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def find_uwsgi() -> str:
    """Return the uWSGI program of this environment; skip the test if it is not installed."""
    found = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
    return found or pytest.skip("uwsgi is not installed in this environment")


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def port(database_url: str, tmp_path: Path) -> Iterator[int]:
    """The port of a running uWSGI with several workers."""
    program, port = find_uwsgi(), free_port()
    (tmp_path / "application.py").write_text(APPLICATION)
    command = [program, "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", str(WORKERS), "--die-on-term"]
    command += ["--virtualenv", sys.prefix, "--wsgi-file", "application.py", "--need-app", "--disable-logging"]
    environment = os.environ | {"WFE_DATABASE_URL": database_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        wait_until_it_accepts_connections(port, server, tmp_path / "log")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def wait_until_it_accepts_connections(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server accepts connections."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def request(port: int, number: int) -> tuple[int, str]:
    """Send a request; return the status and the process id of the worker."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", f"/?{number}")
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_uwsgi_workers_get_their_own_answers_when_forked_after_loading(port: int) -> None:
    """All workers answer requests, and no worker gets the answer of another."""
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda number: request(port, number), range(REQUESTS)))
    assert {status for status, _ in answers} == {200}
    assert len({process for _, process in answers}) == WORKERS
    counters.count("forked by uWSGI", faults=WORKERS, acknowledged=REQUESTS)
