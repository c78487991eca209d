"""The private directory of one server: whose it is, what runs in it, who watches over it, what becomes of leftovers."""

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

# Settled now: the supervisor starts in another working directory than a relative path may mean.
SUPERVISOR = Path(supervisor.__file__).resolve()

# A unix socket's path may have 103 bytes (macOS; Linux: 107): 16 are the directory's name, 15 the socket's.
LONGEST_PLACE = 72

# Seconds in which a leftover without content may be one that another program is just making.
NEWBORN = 60.0

# Seconds until the orphaned backends of a killed postmaster have noticed.
ORPHANS = 30.0


@dataclass(frozen=True)
class DataDirectory:
    """A fresh directory that only `account` (`None`: this process's user) and root can enter.

    As long as this process or its supervisor lives, the directory is locked. A forked child shares the lock,
    so a leftover is not swept while one lives: late, but never too early.
    """

    directory: Path
    account: Account | None
    lock: int
    log: IO[bytes]
    supervisor: subprocess.Popen[bytes]

    @classmethod
    def make(cls) -> Self:
        """Make the directory and start its supervisor, after sweeping away what dead programs left beside it."""
        account = _server_account()
        place = _place_for(account)
        _sweep(place, account)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = os.open(directory, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / supervisor.RUNNING).touch()
        log = (directory / LOG).open("ab")
        return cls(directory, account, lock, log, _start_supervisor(directory, lock, subprocess.PIPE))

    def hand_over(self) -> None:
        """Give the directory and the files in it to the server's user.

        From here on this process, if it is root's, writes no path in there: below another user's directory
        a path leads wherever that user wants.
        """
        if self.account:
            files = [path for path in self.directory.iterdir() if path.is_file()]
            for path in (*files, self.directory):
                os.chown(path, self.account.uid, self.account.gid)

    def run(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program as the server's user, out of reach of Ctrl-C, writing to the log."""
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
        """Have the supervisor stop the server and remove the directory, and wait until it has."""
        self.supervisor.communicate(b"\n")
        if self.directory.exists():
            # The supervisor was killed; another one does what it should have done.
            _start_supervisor(self.directory, self.lock, subprocess.DEVNULL).wait()
        self.log.close()
        os.close(self.lock)

    @contextlib.contextmanager
    def _running(self) -> Iterator[int]:
        """The lock that shows a server at work here, for it to inherit."""
        deadline = time.monotonic() + ORPHANS
        while (lock := supervisor.take_lock(self.directory / supervisor.RUNNING)) is None:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError("processes of the killed PostgreSQL are still running")
            time.sleep(0.01)
        try:
            yield lock
        finally:
            os.close(lock)


def _environment() -> dict[str, str]:
    """Nothing of this program's own: its PG* and LC_* would change the server, its secrets are not the server's."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _server_account() -> Account | None:
    """Whom the server runs as; `None`: this process's own user. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedPostgresError("the server needs a user that is not root: create one named 'postgres'")


def _place_for(account: Account | None) -> Path:
    """The temporary directory, or /tmp where that one's path is too long or closed to the server's user."""
    for place in (Path(tempfile.gettempdir()).resolve(), Path("/tmp").resolve()):
        if len(os.fsencode(place)) <= LONGEST_PLACE and (account is None or _is_open_to_all(place)):
            return place
    raise EmbeddedPostgresError("the server needs a temporary directory with a short path: set TMPDIR")


def _is_open_to_all(place: Path) -> bool:
    """Whether any user may come here, make an entry and remove it."""
    ways = all(path.stat().st_mode & stat.S_IXOTH for path in (place, *place.parents))
    return ways and bool(place.stat().st_mode & stat.S_IWOTH)


def _sweep(place: Path, account: Account | None) -> None:
    """Remove what is left of servers whose program and supervisor were both killed; stop those still running."""
    owners = {os.geteuid(), account.uid if account else os.geteuid()}
    for directory in place.glob(f"{PREFIX}*"):
        # Others may be sweeping as well, so any of them may vanish at any moment.
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid in owners:
                _remove_if_abandoned(directory)


def _remove_if_abandoned(directory: Path) -> None:
    lock = supervisor.take_lock(directory)
    if lock is None:
        return
    try:
        if not _is_newborn(directory):
            _start_supervisor(directory, lock, subprocess.DEVNULL).wait()
    finally:
        os.close(lock)


def _is_newborn(directory: Path) -> bool:
    return not any(directory.iterdir()) and time.time() - directory.stat().st_mtime < NEWBORN


def _start_supervisor(directory: Path, lock: int, stdin: int) -> subprocess.Popen[bytes]:
    """Start a supervisor with its end of the pipe (DEVNULL: the end has come already) and a share in the lock."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", SUPERVISOR, directory, str(os.getpid())],
        cwd="/",
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        start_new_session=True,
    )
