"""The server of the fault tests, with fsync on, which can be stopped, crashed and reconfigured."""

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
    # Tests terminate backends that wait for a standby, and must not wait for a checkpoint.
    "checkpoint_timeout": "30min",
}


class Cluster(EmbeddedPostgres):
    """An embedded server that faults are injected into."""

    def __init__(self) -> None:
        super().__init__(settings=SETTINGS)

    def sql(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute a statement as the superuser, without the provider."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def setting(self, **values: str) -> Iterator[None]:
        """Change the settings of the server until the block ends."""
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
        """Return the process ids of the provider's backends in this database."""
        found = self.sql(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'wfe_postgres'", database
        )
        return [pid for (pid,) in found]

    def terminate(self, database: str) -> int:
        """Terminate all connections of the provider to this database; return their number."""
        found = self.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name = 'wfe_postgres'",
            database,
        )
        return int(found[0][0])
