"""Stops an embedded server and removes its directory when the program that started it has ended.

A script that runs as a child of that program, but in its own session, so that neither Ctrl-C nor SIGKILL sent to the
program reaches it:

    python -I -S supervisor.py DIRECTORY OWNER

OWNER is the program's process id; standard input is a pipe from it. The supervisor acts when the pipe contains a byte,
when it is closed, or when OWNER has ended. The last two differ: a forked child of the program inherits the pipe and
may outlive the program.

The script imports the standard library only, and all of it before it drops root privileges, because the
unprivileged user may not be able to read the interpreter's files.
"""

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

RUNNING = "running"
"""The file in the directory that every process of the server holds locked from its start."""

# After an immediate shutdown request, the postmaster kills remaining processes after five seconds.
TIMEOUT = 7.0


def take_lock(path: Path) -> int | None:
    """An open file descriptor that locks the file or directory; `None` if another process holds the lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def read_pid_file(directory: Path) -> list[str]:
    """The lines of `postmaster.pid`: the process id first, "ready" last; empty if the file does not exist."""
    try:
        return (directory / "data" / "postmaster.pid").read_text().split("\n")
    except OSError:
        return []


def postmaster_pid(directory: Path) -> int | None:
    """The process id in `postmaster.pid`; the process may have ended."""
    lines = read_pid_file(directory)
    # A single-user server, as started by initdb, writes its process id as a negative number.
    return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None


def is_ready(directory: Path, pid: int) -> bool:
    """Whether the postmaster with this process id accepts connections."""
    lines = read_pid_file(directory)
    return lines[:1] == [str(pid)] and "ready" in map(str.strip, lines)


def is_running(directory: Path) -> bool:
    """Whether any process of the server is running: the postmaster, a backend or initdb."""
    try:
        descriptor = take_lock(directory / RUNNING)
    except FileNotFoundError:
        return False
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def stop_server(directory: Path) -> None:
    """Stop the server without a checkpoint; return when all of its processes have exited."""
    start = time.monotonic()
    while is_running(directory) and (waited := time.monotonic() - start) < 2 * TIMEOUT:
        if pid := postmaster_pid(directory):
            # The id of a killed postmaster may already be reused while its backends are still exiting.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGQUIT if waited < TIMEOUT else signal.SIGKILL)
        time.sleep(0.01)


def drop_privileges_to_owner(directory: Path) -> None:
    """Drop root privileges to those of the directory's owner, who controls the files in it."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def supervise(directory: Path, owner: int) -> None:
    """Wait until the owner has ended, then stop the server and remove the directory."""
    for interruption in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interruption, signal.SIG_IGN)
    # Not PR_SET_PDEATHSIG, which is sent when the thread that started this process ends.
    while os.getppid() == owner and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    if directory.exists():
        drop_privileges_to_owner(directory)
        stop_server(directory)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), int(sys.argv[2]))
