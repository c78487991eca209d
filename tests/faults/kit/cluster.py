"""A server of the fault tests' own, with fsync on: it is stopped, crashed, killed and set otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from wfe_postgres.embedded import EmbeddedPostgres

CONNECTIONS = 60
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "max_connections": str(CONNECTIONS),
    "log_min_error_statement": "error",
    # A backend that waits for a standby is ended by a test, which must not wait for the next checkpoint's turn.
    "checkpoint_timeout": "30min",
}


class Cluster(EmbeddedPostgres):
    """An embedded server that faults are injected into."""

    def __init__(self) -> None:
        super().__init__(settings=SETTINGS)

    def sql(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement as the superuser, past the provider."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def setting(self, **values: str) -> Iterator[None]:
        """These settings for all sessions, from their next statement on, until the block ends."""
        for name, value in values.items():
            self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            for name in values:
                self.sql(f"ALTER SYSTEM RESET {name}")
            self.sql("SELECT pg_reload_conf()")

    def backends(self, database: str) -> list[int]:
        """The process numbers of the provider's backends in this database."""
        found = self.sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'wfe_postgres'", database
        )
        return [pid for (pid,) in found]

    def terminate(self, database: str) -> int:
        """End all the provider's connections to this database, as an administrator would."""
        found = self.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name = 'wfe_postgres'",
            database,
        )
        return int(found[0][0])
