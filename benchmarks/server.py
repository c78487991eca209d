"""The server that is measured on, as durable as PostgreSQL is by default, and databases on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from wfe_postgres.embedded import EmbeddedPostgres

FORCE_SYNCHRONOUS_COMMIT = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

# So that neither a checkpoint nor a small cache decides a race.
ROOMY = {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "max_connections": "60"}


class Server:
    """Makes databases on the server that a libpq URL leads to; its user may create them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def database(self, name: str) -> str:
        """Make an empty database, in the place of one that has this name; return its URL."""
        identifier = sql.Identifier(name)
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def settings(self) -> dict[str, str]:
        """The version, and what of the server's settings decides how fast it is."""
        names = [*FORCE_SYNCHRONOUS_COMMIT, *ROOMY, "server_version", "wal_sync_method", "jit"]
        with psycopg.connect(self.url) as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s) ORDER BY name", [names]
            )
            return dict(rows.fetchall())

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def durable_server() -> Iterator[Server]:
    """A private server that loses nothing when the power fails: fsync, synchronous_commit, full_page_writes on."""
    with EmbeddedPostgres(settings=FORCE_SYNCHRONOUS_COMMIT | ROOMY) as embedded:
        yield Server(embedded.url)
