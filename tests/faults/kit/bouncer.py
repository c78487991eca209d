"""A PgBouncer in transaction mode: a transaction is all that a client has of one server connection."""

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
PORT = 6432  # no more than a part of the unix socket's name
TIMEOUT = 10.0

# Clients are believed who they are; with `listen_addr` left out there is only the socket.
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
    """Three connections to the server for each of its databases, shared by any number of clients."""

    def __init__(self, directory: Path, owner: tuple[int, int] | None) -> None:
        self._directory = directory
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database_url: str) -> str:
        """The same database by way of PgBouncer."""
        url = make_url(database_url)
        here = {"host": str(self._directory), "port": str(PORT)}
        pooled = url.set(host=None, port=None, password=None, query={**url.query, **here})
        return pooled.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
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
            assert time.monotonic() < deadline, "PgBouncer does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash would, in the middle of everybody's transactions."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._directory / f".s.PGSQL.{PORT}")) == 0


@contextmanager
def pgbouncer(server: str) -> Iterator[PgBouncer]:
    """A PgBouncer before this server, in a directory of its own; both are gone when the block ends."""
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
    """What earlier clients have left in the server connections, in the way of the next: settings, statements, locks."""
    with psycopg.connect(database_url) as direct:
        usual = _settings(direct)
    clients = [psycopg.connect(bouncer.url(database_url)) for _ in range(POOL_SIZE)]
    try:
        # All in a transaction at once: so each of them looks at another of the server connections.
        return [left for client in clients for left in _left_in(client, usual)]
    finally:
        for client in clients:
            client.close()


def _left_in(client: psycopg.Connection, usual: dict[str, str]) -> list[str]:
    settings = [f"{name} = {value}" for name, value in _settings(client).items() if usual.get(name, value) != value]
    others = client.execute(
        "SELECT statement FROM pg_prepared_statements"
        " UNION ALL SELECT 'an advisory lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    ).fetchall()
    return settings + [left for (left,) in others]


def _settings(connection: psycopg.Connection) -> dict[str, str]:
    # PgBouncer itself gives each client its own name, and says who sits behind it.
    found = connection.execute("SELECT name, setting FROM pg_settings WHERE name <> 'application_name'")
    return dict(found.fetchall())


def _owner(server: str) -> tuple[int, int] | None:
    """Whom it runs as: PgBouncer refuses to be root, and an embedded server's socket is only for the server's user."""
    if os.geteuid() != 0:
        return None
    host = str(conninfo_to_dict(server).get("host", ""))
    if host.startswith("/") and (place := Path(host).stat()).st_uid:
        return place.st_uid, place.st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _target(server: str) -> str:
    """Where the server is and who connects, in PgBouncer's own spelling."""
    known = conninfo_to_dict(server)
    parts = {
        name: str(known[name]).replace("'", "''") for name in ("host", "port", "user", "password") if known.get(name)
    }
    return " ".join(f"{name}='{value}'" for name, value in parts.items())
