"""One database for all migration tests, emptied before each test: creating a database per test would be slow."""

import time
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql as compose
from sqlalchemy import make_url

from tests.migrations.stores import EMPTY

ACTIVE_SESSIONS = """
SELECT pid, state, query FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


@pytest.fixture(scope="session")
def emptied_database(server: str) -> Iterator[str]:
    name = f"wfe_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(compose.SQL("CREATE DATABASE {} TEMPLATE template0").format(compose.Identifier(name)))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        connection.execute(compose.SQL("DROP DATABASE {} WITH (FORCE)").format(compose.Identifier(name)))


@pytest.fixture
def empty_database_url(emptied_database: str) -> Iterator[str]:
    """A database without a schema. The test fails if a session is still active there when it ends."""
    with psycopg.connect(emptied_database, autocommit=True) as connection:
        connection.execute(EMPTY)
        yield emptied_database
        deadline = time.monotonic() + 5
        while busy := connection.execute(ACTIVE_SESSIONS).fetchall():
            if time.monotonic() > deadline:
                pytest.fail(str(busy))
            time.sleep(0.01)
