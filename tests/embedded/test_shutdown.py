"""The embedded server stops and its directory is removed, however its program ends."""

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

from tests.embedded.programs import PROGRAM, ROOT, fetch, is_alive, kill_supervisor_of, linux_only, running, wait_until
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, supervisor

pytestmark = pytest.mark.usefixtures("temporary_directory")


class TestEnding:
    @pytest.mark.parametrize(
        "body",
        ["pass", "raise RuntimeError", "os._exit(0)", "server.stop(); sys.exit(3)"],
    )
    def test_normal_exit_removes_everything(self, body: str) -> None:
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
    def test_signal_removes_everything(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        with running(stderr=subprocess.DEVNULL, start_new_session=True) as program:
            with psycopg.connect(program.url):
                send(program.process.pid, number)
                wait_until(program.is_gone)
            program.process.wait(10)

    def test_ctrl_c_ignored_by_the_program_does_not_stop_the_server(self) -> None:
        body = "signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True); sys.stdin.read()"
        with running(body, start_new_session=True) as program:
            assert program.read() == "on"
            with psycopg.connect(program.url, autocommit=True) as connection:
                os.killpg(program.process.pid, signal.SIGINT)
                # If the postmaster had received the signal, it would terminate this session.
                assert connection.execute("SELECT pg_sleep(0.2) IS NOT NULL").fetchone() == (True,)
            assert program.is_serving()
            program.close_stdin()
            wait_until(program.is_gone)

    def test_kill_during_startup_removes_everything(self, temporary_directory: Path) -> None:
        for tenths in (2, 4, 5, 6, 8):
            command = [sys.executable, "-c", PROGRAM.format(body="pass")]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
                time.sleep(tenths / 10)
                process.kill()
        with EmbeddedPostgres():
            pass
        wait_until(lambda: not any(temporary_directory.iterdir()))

    def test_hanging_server_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supervisor, "TIMEOUT", 0.5)
        with running() as program:
            os.kill(program.postmaster, signal.SIGSTOP)
            supervisor.stop_server(program.directory)
            wait_until(lambda: not is_alive(program.postmaster))
            program.process.kill()
            wait_until(program.is_gone)


class TestForks:
    def test_forked_child_leaving_the_context_does_not_stop_the_server(self) -> None:
        body = "os.fork() or sys.exit(0); os.wait(); print('on', flush=True); sys.stdin.read()"
        with running(body) as program:
            assert program.read() == "on"
            assert program.is_serving()
            program.close_stdin()
            wait_until(program.is_gone)

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_forked_child_can_neither_stop_nor_start_the_server(self) -> None:
        with EmbeddedPostgres() as server:
            child = os.fork()
            if child == 0:
                errors = 0
                for action in (server.stop, server.start, server.crash):
                    try:
                        action()
                    except EmbeddedPostgresError:
                        errors += 1
                os._exit(errors)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
            assert fetch(server.url, "SELECT 1") == [(1,)]

    @pytest.mark.parametrize("end", ["kill", "close"])
    def test_surviving_child_does_not_keep_the_server_running(self, end: str) -> None:
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
                    program.close_stdin()
                wait_until(program.is_gone)
                assert is_alive(child)
            finally:
                os.kill(child, signal.SIGKILL)


class TestLeftovers:
    @linux_only
    def test_next_start_removes_server_of_killed_supervisor(self) -> None:
        with running() as program:
            kill_supervisor_of(program)
            program.process.kill()
            program.process.wait()
            assert program.is_serving()
            with EmbeddedPostgres():
                assert program.is_gone()

    @linux_only
    def test_server_in_use_without_supervisor_is_not_removed(self) -> None:
        with running() as program:
            kill_supervisor_of(program)
            with EmbeddedPostgres():
                assert program.is_serving()
            program.close_stdin()
            wait_until(program.is_gone)

    @linux_only
    def test_stale_pid_file_does_not_kill_another_process(self) -> None:
        with running() as program, subprocess.Popen(["sleep", "60"]) as other_process:
            kill_supervisor_of(program)
            program.process.kill()
            program.process.wait()
            os.kill(program.postmaster, signal.SIGKILL)
            wait_until(lambda: not supervisor.is_running(program.directory))
            # Simulate that the process id of the dead server is used by another process.
            pid_file = program.directory / "data/postmaster.pid"
            pid_file.write_text(f"{other_process.pid}\n{pid_file.read_text().partition(chr(10))[2]}")
            try:
                with EmbeddedPostgres():
                    assert program.is_gone()
                assert other_process.poll() is None
            finally:
                other_process.kill()

    def test_new_directory_is_not_removed(self, temporary_directory: Path) -> None:
        new_directory = Path(tempfile.mkdtemp(prefix="wfe-pg-", dir=temporary_directory))
        with EmbeddedPostgres():
            assert new_directory.exists()
        os.utime(new_directory, (0, 0))
        with EmbeddedPostgres():
            assert not new_directory.exists()

    def test_other_files_are_not_removed(self, temporary_directory: Path) -> None:
        (temporary_directory / "wfe-pg-file").touch()
        (temporary_directory / "wfe-pg-link").symlink_to(temporary_directory.parent)
        (temporary_directory / "other").mkdir()
        with EmbeddedPostgres():
            pass
        assert temporary_directory.parent.exists()
        (temporary_directory / "wfe-pg-file").unlink()
        (temporary_directory / "wfe-pg-link").unlink()
        (temporary_directory / "other").rmdir()
