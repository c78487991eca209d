"""The embedded server's end: nothing of it is left, whatever becomes of its program."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.embedded.programs import PROGRAM, ROOT, fetch, is_alive, kill_keeper_of, linux_only, running, wait_until
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, supervisor

pytestmark = pytest.mark.usefixtures("place")


class TestEnding:
    @pytest.mark.parametrize(
        "body",
        ["pass", "raise RuntimeError", "os._exit(0)", "server.stop(); sys.exit(3)"],
    )
    def test_nothing_is_left_when_the_program_ends(self, body: str) -> None:
        with running(body, stderr=subprocess.DEVNULL) as program:
            wait_until(program.is_gone)
            program.process.wait(10)

    @pytest.mark.parametrize(
        ("send", "number"),
        [
            (os.kill, signal.SIGINT),
            (os.killpg, signal.SIGINT),
            (os.kill, signal.SIGTERM),
            (os.kill, signal.SIGKILL),
            (os.killpg, signal.SIGKILL),
        ],
    )
    def test_nothing_is_left_when_it_is_killed(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        with running(stderr=subprocess.DEVNULL, start_new_session=True) as program:
            with psycopg.connect(program.url):
                send(program.process.pid, number)
                wait_until(program.is_gone)
            program.process.wait(10)

    def test_a_ctrl_c_that_the_program_survives_does_not_reach_the_server(self) -> None:
        body = "signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True); sys.stdin.read()"
        with running(body, start_new_session=True) as program:
            assert program.read() == "on"
            with psycopg.connect(program.url, autocommit=True) as connection:
                os.killpg(program.process.pid, signal.SIGINT)
                # Had it reached the postmaster as well, this would be told to end before it can answer.
                assert connection.execute("SELECT pg_sleep(0.2) IS NOT NULL").fetchone() == (True,)
            assert program.is_serving()
            program.go_on()
            wait_until(program.is_gone)

    def test_nothing_is_left_when_it_is_killed_while_starting(self, place: Path) -> None:
        for tenths in (2, 4, 5, 6, 8):
            command = [sys.executable, "-c", PROGRAM.format(body="pass")]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
                time.sleep(tenths / 10)
                process.kill()
        with EmbeddedPostgres():
            pass
        wait_until(lambda: not any(place.iterdir()))

    def test_a_server_that_hangs_is_ended_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "TIMEOUT", 0.5)
        with running() as program:
            os.kill(program.postmaster, signal.SIGSTOP)
            supervisor.stop_server(program.directory)
            wait_until(lambda: not is_alive(program.postmaster))
            program.process.kill()
            wait_until(program.is_gone)


class TestForks:
    def test_a_child_that_leaves_the_context_stops_nothing(self) -> None:
        body = "os.fork() or sys.exit(0); os.wait(); print('on', flush=True); sys.stdin.read()"
        with running(body) as program:
            assert program.read() == "on"
            assert program.is_serving()
            program.go_on()
            wait_until(program.is_gone)

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_child_may_neither_stop_nor_start(self) -> None:
        with EmbeddedPostgres() as server:
            child = os.fork()
            if child == 0:
                refusals = 0
                for action in (server.stop, server.start, server.crash):
                    try:
                        action()
                    except EmbeddedPostgresError:
                        refusals += 1
                os._exit(refusals)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            assert fetch(server.url, "SELECT 1") == [(1,)]

    @pytest.mark.parametrize("end", ["kill", "close"])
    def test_a_child_that_outlives_the_program_keeps_nothing(self, end: str) -> None:
        body = (
            "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)); "
            "child.start(); print(child.pid, flush=True); sys.stdin.read()"
        )
        with running(body) as program:
            child = int(program.read())
            try:
                if end == "kill":
                    program.process.kill()
                else:
                    program.go_on()
                wait_until(program.is_gone)
                assert is_alive(child)
            finally:
                os.kill(child, signal.SIGKILL)


class TestLeftovers:
    @linux_only
    def test_the_next_start_sweeps_what_a_killed_keeper_left(self) -> None:
        with running() as program:
            kill_keeper_of(program)
            program.process.kill()
            program.process.wait()
            assert program.is_serving()
            with EmbeddedPostgres():
                assert program.is_gone()

    @linux_only
    def test_what_is_in_use_is_not_swept_even_without_its_keeper(self) -> None:
        with running() as program:
            kill_keeper_of(program)
            with EmbeddedPostgres():
                assert program.is_serving()
            program.go_on()
            wait_until(program.is_gone)

    @linux_only
    def test_a_leftover_without_a_server_names_no_victim(self) -> None:
        with running() as program, subprocess.Popen(["sleep", "60"]) as victim:
            kill_keeper_of(program)
            program.process.kill()
            program.process.wait()
            os.kill(program.postmaster, signal.SIGKILL)
            wait_until(lambda: not supervisor.is_running(program.directory))
            # As if the dead server's process id had come to another process since.
            pid_file = program.directory / "data/postmaster.pid"
            pid_file.write_text(f"{victim.pid}\n{pid_file.read_text().partition(chr(10))[2]}")
            try:
                with EmbeddedPostgres():
                    assert program.is_gone()
                assert victim.poll() is None
            finally:
                victim.kill()

    def test_a_directory_just_made_is_left_alone(self, place: Path) -> None:
        newborn = Path(tempfile.mkdtemp(prefix="wfe-pg-", dir=place))
        with EmbeddedPostgres():
            assert newborn.exists()
        os.utime(newborn, (0, 0))
        with EmbeddedPostgres():
            assert not newborn.exists()

    def test_what_is_not_ours_is_left_alone(self, place: Path) -> None:
        (place / "wfe-pg-file").touch()
        (place / "wfe-pg-link").symlink_to(place.parent)
        (place / "other").mkdir()
        with EmbeddedPostgres():
            pass
        assert place.parent.exists()
        (place / "wfe-pg-file").unlink()
        (place / "wfe-pg-link").unlink()
        (place / "other").rmdir()
