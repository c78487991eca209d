"""The demo as people run it: what it shows, how it ends, and that its count can fail."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import cast

import psycopg
import pytest
from sqlalchemy.orm import Session

from wfe_postgres.demo.ledger import Effects, Ledger
from wfe_postgres.demo.run import new_store
from wfe_postgres.demo.worker import Assignment
from wfe_postgres.embedded import EmbeddedPostgresError, find_binaries

LIMIT = 30.0
"""Seconds within which the demo has to end."""

VERDICT = "No effect was lost or duplicated."
OUTCOME = rf"""
(worker-\d) was killed \(SIGKILL\) during 'pick line vase' of order-3\.
  (?!\1)(worker-\d) took the step over: 'vase picked' is recorded once, by \2\.
(worker-\d) was paused \(SIGSTOP\) during 'pick line mirror' of order-4\.
  (?!\3)(worker-\d) took the step over: 'mirror picked' is recorded once, by \4\.
  The late save of \3 was refused and rolled back\.
Effects expected: 21\. Recorded: 21 in demo_effects, 21 in the workflows' data\.
{re.escape(VERDICT)}
$"""
"""The end of the output: who was stopped, who took over, and what is recorded."""
TABLES = {
    "workflows": "4   4 Complete",
    "execution_pointers": "29   29 Complete",
    "events": "4   4 processed",
    "event_subscriptions": "0",
    "scheduled_commands": "0",
    "execution_errors": "3   2 LostTryError, 1 WarehouseBusyError",
    "definition_sequences": "1   1 definition: order is at 4",
}


@contextmanager
def demo(*options: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, running; not on anybody's database unless an option says so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WFE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "wfe_postgres", "demo", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str], words: str) -> None:
    """Read on until a line holds the words."""
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"it never said {words!r}"


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it still shows and what it complains of, until it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    texts = process.stdout.read(), process.stderr.read()
    process.wait(LIMIT)
    return texts


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def assert_that_it_went_well(process: subprocess.Popen[str]) -> None:
    """Run to the end and look at everything that was shown."""
    begin = time.monotonic()
    shown, reported_errors = rest_of(process)
    assert time.monotonic() - begin < LIMIT
    assert (process.returncode, reported_errors) == (0, "")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in shown
    for moment in (
        "reserve stock      failed: warehouse busy; will retry",
        "pick lines         fans out: one branch per line",
        "pick line vase     kills worker-",
        "pick line vase     takes over from worker-",
        "pick line mirror   pauses worker-",
        "pick line mirror   takes over from worker-",
        "pick line mirror   resumes worker-",
        "pick line mirror   its late save is refused",
        "await payment      waits for the payment",
        "book courier       done",
        "await courier      the next step is scheduled",
        "ship               done",
    ):
        assert any(moment in line for line in lines), moment
    for table, rows in TABLES.items():
        assert any(line.split() == [table, *rows.split()] for line in lines), table
    assert re.search(OUTCOME, shown), shown


def schemas(database: psycopg.Connection[tuple[object, ...]]) -> set[object]:
    """The schemas that the demo has made."""
    rows = database.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'wfe\\_demo%'")
    return {name for (name,) in rows}


@pytest.fixture
def database(empty_database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A look past the demo at its database."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        yield connection


def test_on_a_server_of_its_own() -> None:
    try:
        find_binaries()
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    with demo() as process:
        assert_that_it_went_well(process)


def test_on_a_given_database(empty_database_url: str, database: psycopg.Connection[tuple[object, ...]]) -> None:
    with demo("--url", empty_database_url) as process:
        wait_for_line(process, "is placed")
        assert len(schemas(database)) == 1
        assert_that_it_went_well(process)
    assert schemas(database) == set()


def test_a_wrong_count_is_a_failure(empty_database_url: str, database: psycopg.Connection[tuple[object, ...]]) -> None:
    def recorded() -> int:
        (exists,) = database.execute("SELECT to_regclass('wfe_demo_damaged.demo_effects') IS NOT NULL").fetchone() or ()
        if not exists:
            return 0
        (count,) = database.execute("SELECT count(*) FROM wfe_demo_damaged.demo_effects").fetchone() or ()
        return cast(int, count)

    with demo("--url", empty_database_url, "--schema", "wfe_demo_damaged", "--keep") as process:
        wait_until(lambda: recorded() >= 2, "two effects")
        effects = "wfe_demo_damaged.demo_effects"
        (lost,) = database.execute(
            f"DELETE FROM {effects} WHERE id = (SELECT min(id) FROM {effects}) RETURNING effect"
        ).fetchone() or ("",)
        (doubled,) = database.execute(
            f"INSERT INTO {effects} (workflow_id, effect, worker) "
            f"SELECT workflow_id, effect, worker FROM {effects} WHERE id = (SELECT min(id) FROM {effects}) "
            "RETURNING effect"
        ).fetchone() or ("",)
        shown, _ = rest_of(process)
    assert process.returncode == 1
    assert VERDICT not in shown
    faults = [line for line in shown.splitlines() if line.startswith(("LOST", "DUPLICATED"))]
    assert len(faults) == 2
    assert any(f"{lost!r}: expected 1, found 0 in demo_effects" in fault for fault in faults)
    assert any(f"{doubled!r}: expected 1, found 2 in demo_effects" in fault for fault in faults)
    assert "The schema was kept. To remove it: DROP SCHEMA wfe_demo_damaged CASCADE" in shown
    assert schemas(database) == {"wfe_demo_damaged"}


def interrupt(process: subprocess.Popen[str]) -> int:
    """Ctrl-C, which reaches the workers as well."""
    os.killpg(process.pid, signal.SIGINT)
    return signal.SIGINT


def terminate(process: subprocess.Popen[str]) -> int:
    """What a supervisor does, to the demo alone."""
    process.terminate()
    return signal.SIGTERM


@pytest.mark.parametrize("moment", ["worker processes", "pauses"])  # the workers are starting; one is paused
@pytest.mark.parametrize("end", [interrupt, terminate])
def test_an_interrupted_demo_cleans_up(
    empty_database_url: str,
    database: psycopg.Connection[tuple[object, ...]],
    end: Callable[[subprocess.Popen[str]], int],
    moment: str,
) -> None:
    with demo("--url", empty_database_url) as process:
        wait_for_line(process, moment)
        number = end(process)
        _, reported_errors = rest_of(process)
    assert process.returncode == 128 + number
    assert "Traceback" not in reported_errors
    assert schemas(database) == set()


def test_no_worker_outlives_a_demo_that_is_killed(
    empty_database_url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with demo("--url", empty_database_url) as process:
        wait_for_line(process, "pauses")
        process.kill()
        wait_until(lambda: database.execute(connected).fetchone() == (0,), "the end of all workers")


def changed(pid: int, how: int) -> bool:
    """Whether our child has stopped (`os.WSTOPPED`) or gone on (`os.WCONTINUED`) since we asked last."""
    return os.waitid(os.P_PID, pid, how | os.WNOHANG) is not None


def test_a_worker_that_nobody_hears_works_until_its_input_ends(database_url: str) -> None:
    """A demo that is killed closes both; a worker that ended at the first would leave a frozen one as it is."""
    command = [sys.executable, "-m", "wfe_postgres.demo.worker"]
    assignment = Assignment("worker-1", database_url, "wfc", lease=1.0)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.close()
        worker.stdin.write(json.dumps(asdict(assignment)).encode() + b"\n")
        worker.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(2.0)
        with subprocess.Popen(["sleep", "60"], process_group=worker.pid) as frozen:
            frozen.send_signal(signal.SIGSTOP)
            wait_until(partial(changed, frozen.pid, os.WSTOPPED), "the frozen one")
            worker.stdin.close()
            wait_until(partial(changed, frozen.pid, os.WCONTINUED), "the thawed one")
            frozen.kill()


def test_the_schema_of_an_earlier_demo_is_replaced(empty_database_url: str) -> None:
    for _ in range(2):
        with new_store(empty_database_url, "kept", keep=True) as provider:
            ledger = Ledger(provider.engine, "kept")
            ledger.create()
            assert ledger.effects() == Effects()
            with Session(provider.engine) as session, session.begin():
                ledger.write(session, "1", "shipped", "worker-1")


def test_a_schema_of_somebody_else_is_refused_and_kept(
    empty_database_url: str, database: psycopg.Connection[tuple[object, ...]]
) -> None:
    database.execute("CREATE SCHEMA theirs CREATE TABLE orders (id int)")
    refusal = pytest.raises(ValueError, match="schema theirs already exists")
    with refusal, new_store(empty_database_url, "theirs", keep=False):
        pass
    assert database.execute("SELECT count(*) FROM theirs.orders").fetchone() == (0,)
