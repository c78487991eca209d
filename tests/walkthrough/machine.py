"""A clean environment: a fresh clone, an empty home directory, a system without PostgreSQL, and a user."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
POSTGRES = {"initdb", "postgres", "psql", "createdb", "dropdb", "createuser", "dropuser", "vacuumdb", "pgbouncer"}
KEPT = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "http_", "https_", "no_proxy", "HTTP_", "HTTPS_", "NO_PROXY")
"""Prefixes of environment variables that configure package installation; only these are kept."""


@dataclass(frozen=True)
class Machine:
    """The directory and the user of one walkthrough."""

    user: str
    directory: Path

    @property
    def clone(self) -> Path:
        """The clone of the repository."""
        return self.directory / "clone"

    def run(
        self, script: str, variables: dict[str, str], *, programs: list[Path], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run a bash script in the clone, with the directories in `programs` first on PATH.

        The script stops at the first command that fails. Standard error is redirected to standard output.
        """
        environment = {name: value for name, value in os.environ.items() if name.startswith(KEPT)} | {
            "HOME": str(self.directory / "home"),
            "USER": self.user,
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join(map(str, [*programs, self.directory / "bin"])),
        }
        account = pwd.getpwnam(self.user)
        identity = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        as_user = ["setpriv", *identity] if os.geteuid() == 0 else []
        return subprocess.run(
            [*as_user, "bash", "-euo", "pipefail", "-c", script],
            env=environment | variables,
            cwd=self.clone,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )


@contextmanager
def machine(user: str) -> Iterator[Machine]:
    """A machine for the user, deleted afterwards with everything installed on it."""
    with tempfile.TemporaryDirectory(prefix=f"wfe-walkthrough-{user}-", ignore_cleanup_errors=True) as directory:
        created = Machine(user, Path(directory))
        (created.directory / "home").mkdir()
        _link_programs(created.directory / "bin")
        subprocess.run(["git", "clone", "--quiet", ROOT, created.clone], check=True)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{user}:", directory], check=True)
        yield created


def _link_programs(directory: Path) -> None:
    """Link all programs of the system except those of PostgreSQL."""
    directory.mkdir()
    for programs in map(Path, SYSTEM):
        for program in programs.iterdir() if programs.is_dir() else ():
            link = directory / program.name
            if not (program.name in POSTGRES or program.name.startswith("pg_") or link.is_symlink()):
                link.symlink_to(program)
    assert not shutil.which("psql", path=str(directory))
