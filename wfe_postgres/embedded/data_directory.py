"""The private directory of a server: its owner, processes and supervisor, and the removal of abandoned directories."""

import contextlib
import fcntl
import os
import pwd
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from wfe_postgres.embedded import supervisor
from wfe_postgres.embedded.binaries import Account, EmbeddedPostgresError

PREFIX = "wfe-pg-"
LOG = "server.log"

# Resolved at import, because the supervisor starts in another working directory.
SUPERVISOR = Path(supervisor.__file__).resolve()

# The path of a unix socket is limited to 103 bytes on macOS (107 on Linux); the directory takes 16, the socket 15.
MAX_PARENT_LENGTH = 72

# Seconds in which an empty directory may still be under construction by another process.
CREATION_TIMEOUT = 60.0

# Seconds until the backends of a killed postmaster have exited.
BACKEND_EXIT_TIMEOUT = 30.0


@dataclass(frozen=True)
class DataDirectory:
    """A new directory that only `account` (`None`: the current user) and root can access.

    The directory is locked as long as this process or its supervisor runs. A forked child shares the lock, so an
    abandoned directory is not removed before the child ends.
    """

    directory: Path
    account: Account | None
    lock: int
    log: IO[bytes]
    supervisor: subprocess.Popen[bytes]

    @classmethod
    def create(cls) -> Self:
        """Remove abandoned directories, create a new one and start its supervisor."""
        account = _server_account()
        parent = _parent_directory(account)
        _remove_abandoned(parent, account)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(directory, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / supervisor.RUNNING).touch()
        log = (directory / LOG).open("ab")
        return cls(directory, account, lock, log, _start_supervisor(directory, lock, subprocess.PIPE))

    def hand_over(self) -> None:
        """Change the owner of the directory and its files to the server's user.

        After this, a process of root must not write to paths in the directory, since its owner could replace them
        with symbolic links.
        """
        if self.account:
            files = [path for path in self.directory.iterdir() if path.is_file()]
            for path in (*files, self.directory):
                os.chown(path, self.account.uid, self.account.gid)

    def run(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program as the server's user, logging to the log file, in its own session (not reached by Ctrl-C)."""
        with self._running() as lock:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                env=_environment(),
                pass_fds=(lock,),
                start_new_session=True,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=() if self.account else None,
            )

    def remove(self) -> None:
        """Let the supervisor stop the server and remove the directory, and wait for it."""
        self.supervisor.communicate(b"\n")
        if self.directory.exists():
            # The supervisor was killed; start another one.
            _start_supervisor(self.directory, self.lock, subprocess.DEVNULL).wait()
        self.log.close()
        os.close(self.lock)

    @contextlib.contextmanager
    def _running(self) -> Iterator[int]:
        """The lock that marks a running server, inherited by its processes."""
        deadline = time.monotonic() + BACKEND_EXIT_TIMEOUT
        while (lock := supervisor.take_lock(self.directory / supervisor.RUNNING)) is None:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError("processes of the killed PostgreSQL are still running")
            time.sleep(0.01)
        try:
            yield lock
        finally:
            os.close(lock)


def _environment() -> dict[str, str]:
    """A minimal environment: PG* and LC_* variables would affect the server, and secrets must not be passed on."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _server_account() -> Account | None:
    """The user that the server runs as; `None`: the current user. PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError("PostgreSQL does not run as root: create a user named 'postgres'")


def _parent_directory(account: Account | None) -> Path:
    """The temporary directory, or /tmp if its path is too long or not accessible to the server's user."""
    for parent in (Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve()):
        if len(os.fsencode(parent)) <= MAX_PARENT_LENGTH and (account is None or _is_world_writable(parent)):
            return parent
    raise EmbeddedPostgresError("the server needs a temporary directory with a short path: set TMPDIR")


def _is_world_writable(parent: Path) -> bool:
    """Whether all users can access the directory and create files in it."""
    accessible = all(path.stat().st_mode & stat.S_IXOTH for path in (parent, *parent.parents))
    return accessible and bool(parent.stat().st_mode & stat.S_IWOTH)


def _remove_abandoned(parent: Path, account: Account | None) -> None:
    """Stop servers whose program and supervisor were both killed, and remove their directories."""
    owners = {os.geteuid(), account.uid if account else os.geteuid()}
    for directory in parent.glob(f"{PREFIX}*"):
        # Other processes may remove the same directories concurrently.
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid in owners:
                _remove_if_abandoned(directory)


def _remove_if_abandoned(directory: Path) -> None:
    lock = supervisor.take_lock(directory)
    if lock is None:
        return
    try:
        if not _is_being_created(directory):
            _start_supervisor(directory, lock, subprocess.DEVNULL).wait()
    finally:
        os.close(lock)


def _is_being_created(directory: Path) -> bool:
    return not any(directory.iterdir()) and time.time() - directory.stat().st_mtime < CREATION_TIMEOUT


def _start_supervisor(directory: Path, lock: int, stdin: int) -> subprocess.Popen[bytes]:
    """Start a supervisor with its end of the pipe (DEVNULL: act immediately); it inherits the lock."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", SUPERVISOR, directory, str(os.getpid())],
        cwd="/",
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
    )
