"""The benchmark server, with PostgreSQL's default durability, and its databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from wfe_postgres.embedded import EmbeddedPostgres

FORCE_SYNCHRONOUS_COMMIT = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

# Large enough that neither checkpoints nor the cache size affect the results.
MEMORY_SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_connections": "120",
}


class Server:
    """Creates databases on the server of a libpq URL, whose user must have the privilege."""

    def __init__(self, url: str) -> None:
        self.url = url

    def database(self, name: str) -> str:
        """Create an empty database, replacing an existing one; return its URL."""
        identifier = sql.Identifier(name)
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drop a database and terminate its connections."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def version(self) -> int:
        """The major version of PostgreSQL."""
        with psycopg.connect(self.url) as connection:
            return connection.info.server_version // 10_000

    def settings(self) -> dict[str, str]:
        """The version and the settings that affect performance."""
        names = [*FORCE_SYNCHRONOUS_COMMIT, *MEMORY_SETTINGS, "server_version", "wal_sync_method", "jit"]
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s) ORDER BY name", [names]
            )
            return dict(rows.fetchall())

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def durable_server(binaries: Path | None = None) -> Iterator[Server]:
    """A private server with fsync, synchronous_commit and full_page_writes on; see `EmbeddedPostgres.binaries`."""
    with EmbeddedPostgres(settings=FORCE_SYNCHRONOUS_COMMIT | MEMORY_SETTINGS, binaries=binaries) as embedded:
        yield Server(embedded.url)
