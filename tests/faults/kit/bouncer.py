"""A PgBouncer in transaction mode: a client has a server connection for one transaction only."""

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url

POOL_SIZE = 3
PORT = 6432  # part of the name of the Unix socket
TIMEOUT = 10.0

# Clients are not authenticated. Without `listen_addr` there is only the Unix socket.
CONFIGURATION = """\
[databases]
* = {target}

[pgbouncer]
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
auth_type = any
listen_port = {port}
unix_socket_dir = {directory}
"""


class PgBouncer:
    """A PgBouncer process with three server connections for each database."""

    def __init__(self, directory: Path, owner: tuple[int, int] | None) -> None:
        self._directory = directory
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database_url: str) -> str:
        """Return the URL of the database through PgBouncer."""
        url = make_url(database_url)
        socket_address = {"host": str(self._directory), "port": str(PORT)}
        pooled = url.set(host=None, port=None, password=None, query={**url.query, **socket_address})
        return pooled.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        user, group = self._owner or (None, None)
        self._process = subprocess.Popen(
            ["pgbouncer", "--quiet", str(self._directory / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            group=group,
            extra_groups=None if self._owner is None else (),
        )
        deadline = time.monotonic() + TIMEOUT
        while not self._answers():
            assert self._process.poll() is None, "PgBouncer did not start"
            assert time.monotonic() < deadline, "PgBouncer does not accept connections"
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill the process, as in a crash."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._directory / f".s.PGSQL.{PORT}")) == 0


@contextmanager
def pgbouncer(server: str) -> Iterator[PgBouncer]:
    """Run a PgBouncer for this server in a temporary directory, until the block ends."""
    owner = _owner(server)
    with TemporaryDirectory(prefix="wfe-bouncer-") as name:
        directory = Path(name)
        (directory / "pgbouncer.ini").write_text(
            CONFIGURATION.format(target=_target(server), size=POOL_SIZE, port=PORT, directory=directory)
        )
        if owner:
            for path in (directory / "pgbouncer.ini", directory):
                os.chown(path, *owner)
        bouncer = PgBouncer(directory, owner)
        try:
            bouncer.start()
            yield bouncer
        finally:
            bouncer.kill()


def left_behind(bouncer: PgBouncer, database_url: str) -> list[str]:
    """Return the settings, prepared statements and locks that clients have left in the server connections."""
    with psycopg.connect(database_url) as direct:
        default_settings = _settings(direct)
    clients = [psycopg.connect(bouncer.url(database_url)) for _ in range(POOL_SIZE)]
    try:
        # The clients are in transactions at the same time, so that each has a different server connection.
        return [left for client in clients for left in _left_in(client, default_settings)]
    finally:
        for client in clients:
            client.close()


def _left_in(client: psycopg.Connection, default_settings: dict[str, str]) -> list[str]:
    settings = [
        f"{name} = {value}" for name, value in _settings(client).items() if default_settings.get(name, value) != value
    ]
    others = client.execute(
        "SELECT statement FROM pg_prepared_statements"
        " UNION ALL SELECT 'an advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchall()
    return settings + [left for (left,) in others]


def _settings(connection: psycopg.Connection) -> dict[str, str]:
    # PgBouncer sets `application_name` for each client.
    found = connection.execute("SELECT name, setting FROM pg_settings WHERE name <> 'application_name'")
    return dict(found.fetchall())


def _owner(server: str) -> tuple[int, int] | None:
    """Return the user to run as: PgBouncer refuses root, and the socket of an embedded server belongs to its user."""
    if os.geteuid() != 0:
        return None
    host = str(conninfo_to_dict(server).get("host", ""))
    if host.startswith("/") and (status := Path(host).stat()).st_uid:
        return status.st_uid, status.st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _target(server: str) -> str:
    """Return the connection parameters of the server in the syntax of PgBouncer."""
    known = conninfo_to_dict(server)
    parts = {
        name: str(known[name]).replace("'", "''") for name in ("host", "port", "user", "password") if known.get(name)
    }
    return " ".join(f"{name}='{value}'" for name, value in parts.items())
