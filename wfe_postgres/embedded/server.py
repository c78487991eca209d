"""The private server: made, started, stopped, started again."""

import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from wfe_postgres.embedded import supervisor
from wfe_postgres.embedded.binaries import EmbeddedPostgresError, find_binaries, within_reach
from wfe_postgres.embedded.data_directory import LOG, DataDirectory

if TYPE_CHECKING:
    import psycopg

USER = "wfe"
DATABASE = "wfe_test"
PORT = 5432

# Nothing in here outlives the program, so nothing needs to reach the disk. The name tells `schema.ensure` so.
DEFAULTS = {"fsync": "off", "full_page_writes": "off", "cluster_name": "wfe_postgres-embedded"}

HBA = """\
local all,replication all trust
host all,replication all 127.0.0.1/32 scram-sha-256
"""

INITDB = (f"--username={USER}", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync", "--no-instructions")

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Seconds until a start or a stop is given up.
TIMEOUT = 60.0


class EmbeddedPostgres:
    """A PostgreSQL server of this process's own, in a directory of its own below the temporary one.

        with EmbeddedPostgres() as server:
            engine = create_engine(server.url)

    It has a superuser `wfe` and an empty database `wfe_test`, and listens on a unix socket that nobody but the
    starting user and the server's can reach; with `tcp` also on 127.0.0.1, at a free port and with a password,
    and then that is where the URLs lead. `settings` are lines of postgresql.conf; `fsync` and `full_page_writes`
    are off unless they say otherwise. `binaries` is the directory of `initdb` and `postgres`; without it
    `find_binaries()` chooses.

    Started by root the server runs as `postgres` or `nobody`. Whatever way this process ends, server and
    directory go with it; what a killed supervisor left is removed at the next start. A forked child may use the
    URLs, but neither stops the server by its own end nor keeps it by living on. Not thread-safe.
    """

    def __init__(self, *, settings: Mapping[str, str] = {}, tcp: bool = False, binaries: Path | None = None) -> None:
        self._settings = settings
        self._tcp = tcp
        self._binaries = binaries
        self._password = secrets.token_urlsafe(16)
        self._owner = os.getpid()
        self._home: DataDirectory | None = None
        self._port = PORT
        self._reserved: socket.socket | None = None
        self._command: list[str | Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """The private directory: `data` is the cluster, `server.log` the log. Gone after `close()`."""
        return self._alive().directory

    @property
    def url(self) -> str:
        """Where the database `wfe_test` is, for SQLAlchemy and for libpq; the same from first start to close."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Where the database of this name is."""
        if self._tcp:
            return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{quote(database)}"
        return self._socket_url(database)

    def start(self) -> None:
        """Start the server, which the first time means make it, and return when it accepts connections.

        Nothing if it runs. Raises `EmbeddedPostgresError`; then server and directory are gone.
        """
        try:
            if self._home is None:
                self._make()
                self._launch()
                self._furnish()
            elif not self._is_up():
                self._launch()
        except OSError as error:
            self.close()
            raise EmbeddedPostgresError(f"the embedded PostgreSQL did not start: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and keep its data; the modes are those of `pg_ctl stop`. Nothing if it doesn't run.

        Raises `EmbeddedPostgresError` when it has not ended after a minute.
        """
        if self._process and self._is_up():
            self._process.send_signal(SIGNALS[mode])
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                raise EmbeddedPostgresError(f"the embedded PostgreSQL ignored a {mode} stop") from None

    def crash(self) -> None:
        """Stop the server as a crash would, without a checkpoint, and start it again: it recovers."""
        self.stop("immediate")
        self.start()

    def close(self) -> None:
        """Stop the server and remove its directory. Nothing in a forked child, or when it is done already."""
        if self._home and self._owner == os.getpid():
            home, self._home = self._home, None
            home.remove()
            if self._process:
                self._process.wait()
            if self._reserved:
                self._reserved.close()

    def connect(self, database: str = DATABASE) -> "psycopg.Connection[tuple[Any, ...]]":
        """A new connection in autocommit mode, as superuser, always through the socket."""
        import psycopg

        return psycopg.connect(self._socket_url(database), autocommit=True)

    def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database as a copy of another, to which nobody may be connected; return its URL."""
        from psycopg import sql

        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect("postgres") as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def log_mark(self) -> int:
        """How long the server's log is now, in bytes."""
        return (self.directory / LOG).stat().st_size

    def log_since(self, mark: int = 0) -> str:
        """What the server has logged since its log was `mark` bytes long."""
        return (self.directory / LOG).read_bytes()[mark:].decode(errors="replace")

    def _alive(self) -> DataDirectory:
        if self._home is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL has not been started")
        return self._home

    def _is_up(self) -> bool:
        if self._owner != os.getpid():
            raise EmbeddedPostgresError("only the process that started this PostgreSQL can start or stop it")
        return self._process is not None and self._process.poll() is None

    def _socket_url(self, database: str) -> str:
        # The port is named because libpq would otherwise take it from PGPORT.
        return f"postgresql://{USER}@/{quote(database)}?host={quote(str(self.directory))}&port={self._port}"

    def _make(self) -> None:
        """Make the directory and all that root may write in it, hand it over, and have the cluster made."""
        programs = self._binaries or find_binaries()
        self._owner = os.getpid()
        self._home = home = DataDirectory.make()
        if home.account:
            programs = within_reach(programs, home.directory / "install", home.account)
        if self._tcp:
            self._port, self._reserved = _reserve_port()
        data, configuration = home.directory / "data", home.directory / "server.conf"
        configuration.write_text(self._configuration())
        (home.directory / "pg_hba.conf").write_text(HBA)
        home.hand_over()
        self._command = [programs / "postgres", "-D", data, "-c", f"config_file={configuration}"]
        self._process = home.run(programs / "initdb", "-D", data, *INITDB)
        if self._process.wait() != 0:
            raise self._failure()

    def _configuration(self) -> str:
        """The text of server.conf. It stands outside the cluster, so that ALTER SYSTEM stands above it."""
        own = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self._port),
            "unix_socket_directories": str(self.directory),
            "hba_file": str(self.directory / "pg_hba.conf"),
        }
        settings = own | DEFAULTS | dict(self._settings)
        quoted = {name: value.replace("'", "''") for name, value in settings.items()}
        lines = [f"{name} = '{value}'" for name, value in quoted.items()]
        return "\n".join(["include 'data/postgresql.conf'", *lines, ""])

    def _launch(self) -> None:
        """Start the postmaster and wait until it says that it is ready."""
        self._process = process = self._alive().run(*self._command)
        deadline = time.monotonic() + TIMEOUT
        while not supervisor.is_ready(self.directory, process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            time.sleep(0.005)

    def _furnish(self) -> None:
        from psycopg import sql

        password = sql.SQL("ALTER ROLE {} PASSWORD {}")
        with self.connect("postgres") as connection:
            connection.execute(password.format(sql.Identifier(USER), sql.Literal(self._password)))
        self.create_database(DATABASE)

    def _failure(self) -> EmbeddedPostgresError:
        """The error of a server that did not start, with the last that it said: as a rule the cause and its effect."""
        said = "; ".join(self.log_since().strip().splitlines()[-2:])
        return EmbeddedPostgresError(f"the embedded PostgreSQL did not start: {said or 'it says nothing'}")


def _reason(error: OSError) -> str:
    """What the system refused; a container's root may lack root's rights, and the system only says that it may not."""
    if os.geteuid() == 0 and error.errno in (errno.EPERM, errno.EINVAL):
        return "PostgreSQL refuses to run as root, and this root may not become another user"
    return str(error)


def _reserve_port() -> tuple[int, socket.socket]:
    """A free TCP port, and the socket that keeps it free for this server until it is closed.

    A socket that is bound but does not listen takes the port out of the system's choice, and PostgreSQL, which
    sets SO_REUSEADDR as well, can have it all the same. Without it a client's own end could come to sit on the
    port while the server is down. Other systems than Linux would keep it from PostgreSQL, too.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    if sys.platform != "linux":
        reserved.close()
    return port, reserved


@contextlib.contextmanager
def temporary_postgres(env_var: str) -> Iterator[str]:
    """The URL of a database to work on: the environment variable's if it is set, else an embedded server's.

    The embedded one runs as long as the context; what is in the variable is neither checked nor touched.
    Raises `EmbeddedPostgresError` when there is neither.
    """
    if url := os.environ.get(env_var):
        yield url
    else:
        with EmbeddedPostgres() as server:
            yield server.url
