"""Ends an embedded server and removes its directory once the program that started it is gone.

A script, run as a child of that program but in a session of its own, so that neither Ctrl-C nor `kill -9`
on the program reaches it:

    python -I -S supervisor.py DIRECTORY OWNER

OWNER is the program's process id; standard input is a pipe from it. The end has come when the pipe holds a
byte, when it is closed, or when OWNER is dead - the last two are not the same: a forked child of the
program inherits the pipe and may outlive it.

It imports the standard library only, and all of it before root's rights are given up: the user they are
given up for may not be able to read the interpreter's files.
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
"""The file in the directory which every process of the server holds locked, from before its first moment."""

# Once asked to stop at once, the postmaster itself kills what has not obeyed after five seconds.
TIMEOUT = 7.0


def take_lock(path: Path) -> int | None:
    """An open descriptor that holds the lock of a file or directory; `None` when somebody else holds it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def read_pid_file(directory: Path) -> list[str]:
    """The lines of `postmaster.pid`: the process id first, "ready" last; none when there is no such file."""
    try:
        return (directory / "data" / "postmaster.pid").read_text().split("\n")
    except OSError:
        return []


def postmaster_pid(directory: Path) -> int | None:
    """The process id in `postmaster.pid`, which may be that of a dead one."""
    lines = read_pid_file(directory)
    # A single-user server, which is a part of initdb, writes the negative of its number.
    return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None


def is_ready(directory: Path, pid: int) -> bool:
    """Whether the postmaster of this process id accepts connections."""
    lines = read_pid_file(directory)
    return lines[:1] == [str(pid)] and "ready" in map(str.strip, lines)


def is_running(directory: Path) -> bool:
    """Whether any process of the server is left: the postmaster, an orphaned backend, initdb."""
    try:
        descriptor = take_lock(directory / RUNNING)
    except FileNotFoundError:
        return False
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def stop_server(directory: Path) -> None:
    """Stop the server at once, without regard for its data; return when no process of it is left."""
    start = time.monotonic()
    while is_running(directory) and (waited := time.monotonic() - start) < 2 * TIMEOUT:
        if pid := postmaster_pid(directory):
            # A killed postmaster's id may already be somebody else's while its orphans are still ending.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGQUIT if waited < TIMEOUT else signal.SIGKILL)
        time.sleep(0.01)


def become_owner_of(directory: Path) -> None:
    """Give up root's rights for those of the directory's owner: what lies in it is the owner's word only."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def keep(directory: Path, owner: int) -> None:
    """Wait for the owner's end, then stop the server and remove the directory."""
    for interruption in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(interruption, signal.SIG_IGN)
    # The parent's id, not PR_SET_PDEATHSIG: that one fires when the thread which started us ends.
    while os.getppid() == owner and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    if directory.exists():
        become_owner_of(directory)
        stop_server(directory)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), int(sys.argv[2]))
