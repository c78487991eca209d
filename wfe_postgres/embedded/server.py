"""The embedded server: create, start, stop, restart."""

import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

from wfe_postgres.embedded import supervisor
from wfe_postgres.embedded.binaries import EmbeddedPostgresError, accessible_binaries, find_binaries
from wfe_postgres.embedded.configuration import DATABASE, HBA, INITDB, PORT, USER, reserve_port, server_conf
from wfe_postgres.embedded.data_directory import LOG, DataDirectory

if TYPE_CHECKING:
    import psycopg

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Seconds until a start or a stop fails.
TIMEOUT = 60.0


class EmbeddedPostgres:
    """A private PostgreSQL server of this process, in its own directory below the temporary directory.

        with EmbeddedPostgres() as server:
            engine = create_engine(server.url)

    The server has a superuser `wfe` and an empty database `wfe_test`. It listens on a unix socket that only the
    current user and the server's user can access. With `tcp` it also listens on 127.0.0.1, on a free port and with a
    password, and the URLs use this address. `settings` are parameters of postgresql.conf; `fsync` and
    `full_page_writes` are off by default. `binaries` is the directory of `initdb` and `postgres`; the default is
    `find_binaries()`.

    Started by root, the server runs as `postgres` or `nobody`. Server and directory are removed when this process
    ends, however it ends; if the supervisor was killed as well, they are removed at the next start. A forked child may
    use the URLs, but its end does not stop the server, and the server does not keep running for it. Not thread-safe.
    """

    def __init__(self, *, settings: Mapping[str, str] = {}, tcp: bool = False, binaries: Path | None = None) -> None:
        self._settings = settings
        self._tcp = tcp
        self._binaries = binaries
        self._password = secrets.token_urlsafe(16)
        self._owner = os.getpid()
        self._data_directory: DataDirectory | None = None
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
        """The private directory: `data` is the cluster, `server.log` the log. Removed by `close()`."""
        return self._started_directory().directory

    @property
    def url(self) -> str:
        """The URL of the database `wfe_test`, for SQLAlchemy and libpq; constant from the first start to `close()`."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of the database with this name."""
        if self._tcp:
            return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{quote(database)}"
        return self._socket_url(database)

    def start(self) -> None:
        """Start the server and return when it accepts connections; the first start creates the cluster.

        Does nothing if the server is running. Raises `EmbeddedPostgresError` after removing server and directory.
        """
        try:
            if self._data_directory is None:
                self._create()
                self._launch()
                self._create_database()
            elif not self._is_running():
                self._launch()
        except OSError as error:
            self.close()
            raise EmbeddedPostgresError(f"the embedded PostgreSQL did not start: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and keep its data; the modes are those of `pg_ctl stop`. Does nothing if it is not running.

        Raises `EmbeddedPostgresError` if the server has not stopped after a minute.
        """
        if self._process and self._is_running():
            self._process.send_signal(SIGNALS[mode])
            try:
                self._process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                raise EmbeddedPostgresError(f"the embedded PostgreSQL did not complete a {mode} shutdown") from None

    def crash(self) -> None:
        """Simulate a crash: stop the server without a checkpoint and start it again, so that it recovers."""
        self.stop("immediate")
        self.start()

    def close(self) -> None:
        """Stop the server and remove its directory. Does nothing in a forked child or if already closed."""
        if self._data_directory and self._owner == os.getpid():
            directory, self._data_directory = self._data_directory, None
            directory.remove()
            if self._process:
                self._process.wait()
            if self._reserved:
                self._reserved.close()

    def connect(self, database: str = DATABASE) -> "psycopg.Connection[tuple[Any, ...]]":
        """Open a superuser connection in autocommit mode through the unix socket."""
        import psycopg

        return psycopg.connect(self._socket_url(database), autocommit=True)

    def create_database(self, name: str, template: str = "template0") -> str:
        """Create a database as a copy of a template, which must not have connections; return its URL."""
        from psycopg import sql

        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect("postgres") as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def log_mark(self) -> int:
        """The current size of the server's log in bytes."""
        return (self.directory / LOG).stat().st_size

    def log_since(self, mark: int = 0) -> str:
        """The server's log from position `mark`."""
        return (self.directory / LOG).read_bytes()[mark:].decode(errors="replace")

    def _started_directory(self) -> DataDirectory:
        if self._data_directory is None:
            raise EmbeddedPostgresError("the embedded PostgreSQL has not been started")
        return self._data_directory

    def _is_running(self) -> bool:
        if self._owner != os.getpid():
            raise EmbeddedPostgresError("only the process that started this PostgreSQL can start or stop it")
        return self._process is not None and self._process.poll() is None

    def _socket_url(self, database: str) -> str:
        # The port is explicit, because libpq would otherwise use PGPORT.
        return f"postgresql://{USER}@/{quote(database)}?host={quote(str(self.directory))}&port={self._port}"

    def _create(self) -> None:
        """Create the directory and its configuration files, hand it over to the server's user, and run initdb."""
        programs = self._binaries or find_binaries()
        self._owner = os.getpid()
        self._data_directory = directory = DataDirectory.create()
        if directory.account:
            programs = accessible_binaries(programs, directory.directory / "install", directory.account)
        if self._tcp:
            self._port, self._reserved = reserve_port()
        data, configuration = directory.directory / "data", directory.directory / "server.conf"
        server_settings = server_conf(directory.directory, self._port, tcp=self._tcp, settings=self._settings)
        configuration.write_text(server_settings)
        (directory.directory / "pg_hba.conf").write_text(HBA)
        directory.hand_over()
        self._command = [programs / "postgres", "-D", data, "-c", f"config_file={configuration}"]
        self._process = directory.run(programs / "initdb", "-D", data, *INITDB)
        if self._process.wait() != 0:
            raise self._failure()

    def _launch(self) -> None:
        """Start the postmaster and wait until it is ready."""
        self._process = process = self._started_directory().run(*self._command)
        deadline = time.monotonic() + TIMEOUT
        while not supervisor.is_ready(self.directory, process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            time.sleep(0.005)

    def _create_database(self) -> None:
        from psycopg import sql

        password = sql.SQL("ALTER ROLE {} PASSWORD {}")
        with self.connect("postgres") as connection:
            connection.execute(password.format(sql.Identifier(USER), sql.Literal(self._password)))
        self.create_database(DATABASE)

    def _failure(self) -> EmbeddedPostgresError:
        """The error for a server that did not start, with the last two lines of its log."""
        log = "; ".join(self.log_since().strip().splitlines()[-2:])
        return EmbeddedPostgresError(f"the embedded PostgreSQL did not start: {log or 'its log is empty'}")


def _reason(error: OSError) -> str:
    """The reason of an OS error; in a container, root may lack the privilege to change its user."""
    if os.geteuid() == 0 and error.errno in (errno.EPERM, errno.EINVAL):
        return "PostgreSQL does not run as root, and this process lacks the privilege to change its user"
    return str(error)


@contextlib.contextmanager
def temporary_postgres(env_var: str = "WFE_DATABASE_URL") -> Iterator[str]:
    """The URL in the environment variable if it is set, else the URL of an embedded server.

    The embedded server runs as long as the context. The URL in the variable is used unchecked. Raises
    `EmbeddedPostgresError` if the variable is not set and no server can be started.
    """
    if url := os.environ.get(env_var):
        yield url
    else:
        with EmbeddedPostgres() as server:
            yield server.url
