"""Helpers for the migration tests: the layout of a Rust host, Alembic commands, and the state of a store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic.config import Config
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from wfe_postgres import schema as store

ROOT = Path(__file__).parents[2]

# The tables that the Rust provider creates at startup.
RUST_LAYOUT = """
CREATE SCHEMA IF NOT EXISTS wfc;
CREATE TABLE IF NOT EXISTS wfc.workflows (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    root_workflow_id TEXT,
    definition_id TEXT NOT NULL,
    version INT NOT NULL,
    description TEXT,
    reference TEXT,
    status TEXT NOT NULL,
    data JSONB NOT NULL DEFAULT '{}',
    next_execution BIGINT,
    create_time TIMESTAMPTZ NOT NULL,
    complete_time TIMESTAMPTZ,
    last_heartbeat_at TIMESTAMPTZ
);
CREATE TABLE IF NOT EXISTS wfc.execution_pointers (
    id TEXT PRIMARY KEY,
    workflow_id TEXT NOT NULL REFERENCES wfc.workflows(id),
    step_id INT NOT NULL,
    active BOOLEAN NOT NULL DEFAULT TRUE,
    status TEXT NOT NULL,
    sleep_until TIMESTAMPTZ,
    persistence_data JSONB,
    start_time TIMESTAMPTZ,
    end_time TIMESTAMPTZ,
    event_name TEXT,
    event_key TEXT,
    event_published BOOLEAN DEFAULT FALSE,
    event_data JSONB,
    step_name TEXT,
    retry_count INT DEFAULT 0,
    children JSONB DEFAULT '[]',
    context_item JSONB,
    predecessor_id TEXT,
    outcome JSONB,
    scope JSONB DEFAULT '[]',
    extension_attributes JSONB DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS wfc.events (
    id TEXT PRIMARY KEY,
    event_name TEXT NOT NULL,
    event_key TEXT NOT NULL,
    event_data JSONB NOT NULL DEFAULT 'null',
    event_time TIMESTAMPTZ NOT NULL,
    is_processed BOOLEAN DEFAULT FALSE
);
CREATE TABLE IF NOT EXISTS wfc.event_subscriptions (
    id TEXT PRIMARY KEY,
    workflow_id TEXT NOT NULL,
    step_id INT NOT NULL,
    execution_pointer_id TEXT NOT NULL,
    event_name TEXT NOT NULL,
    event_key TEXT NOT NULL,
    subscribe_as_of TIMESTAMPTZ NOT NULL,
    subscription_data JSONB,
    external_token TEXT,
    external_worker_id TEXT,
    external_token_expiry TIMESTAMPTZ
);
CREATE TABLE IF NOT EXISTS wfc.execution_errors (
    id SERIAL PRIMARY KEY,
    error_time TIMESTAMPTZ NOT NULL,
    workflow_id TEXT NOT NULL,
    execution_pointer_id TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS wfc.scheduled_commands (
    id SERIAL PRIMARY KEY,
    command_name TEXT NOT NULL,
    data TEXT NOT NULL,
    execute_time BIGINT NOT NULL,
    UNIQUE (command_name, data)
);
CREATE TABLE IF NOT EXISTS wfc.definition_sequences (
    definition_id TEXT PRIMARY KEY,
    next_num BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS idx_workflows_next_execution ON wfc.workflows (next_execution);
CREATE INDEX IF NOT EXISTS idx_workflows_status ON wfc.workflows (status);
CREATE INDEX IF NOT EXISTS idx_events_name_key ON wfc.events (event_name, event_key);
CREATE INDEX IF NOT EXISTS idx_events_is_processed ON wfc.events (is_processed);
CREATE INDEX IF NOT EXISTS idx_events_event_time ON wfc.events (event_time);
CREATE INDEX IF NOT EXISTS idx_subscriptions_name_key ON wfc.event_subscriptions (event_name, event_key);
CREATE INDEX IF NOT EXISTS idx_subscriptions_workflow ON wfc.event_subscriptions (workflow_id);
CREATE INDEX IF NOT EXISTS idx_scheduled_commands_execute_time ON wfc.scheduled_commands (execute_time);
"""

# Includes the migration tables of sqlx.
RUST_ROWS = """
CREATE TABLE wfc._sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE public._sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL);
INSERT INTO wfc._sqlx_migrations VALUES (20240101, 'initial');
INSERT INTO public._sqlx_migrations VALUES (20240101, 'initial');
INSERT INTO wfc.workflows (id, name, definition_id, version, status, data, next_execution, create_time)
  VALUES ('w1', 'order-1', 'order', 1, 'Runnable', '{"n": 1}', 0, now()),
         ('w2', 'order-2', 'order', 1, 'Complete', '{"n": 2}', NULL, now());
INSERT INTO wfc.execution_pointers (id, workflow_id, step_id, status, children, scope)
  VALUES ('p1', 'w1', 0, 'Complete', '["p2"]', '[]'), ('p2', 'w1', 1, 'Pending', '[]', '["p1"]'),
         ('p3', 'w2', 0, 'Complete', '[]', '[]');
INSERT INTO wfc.events (id, event_name, event_key, event_data, event_time) VALUES ('e1', 'paid', '1', '7', now());
INSERT INTO wfc.event_subscriptions
  (id, workflow_id, step_id, execution_pointer_id, event_name, event_key, subscribe_as_of)
  VALUES ('s1', 'w1', 1, 'p2', 'paid', '1', now());
INSERT INTO wfc.execution_errors (error_time, workflow_id, execution_pointer_id, message)
  VALUES (now(), 'w1', 'p1', 'first'), (now(), 'w1', 'p1', 'second');
INSERT INTO wfc.scheduled_commands (command_name, data, execute_time) VALUES ('ProcessWorkflow', 'w1', 5);
INSERT INTO wfc.definition_sequences VALUES ('order', 2);
"""

# More rows than the limit up to which indexes are built without CONCURRENTLY.
MANY_EVENTS = (
    "INSERT INTO wfc.events (id, event_name, event_key, event_data, event_time)"
    " SELECT 'many' || n, 'paid', n::text, to_jsonb(repeat('x', 400)), now() FROM generate_series(1, 12000) n"
)

# Drops every schema.
EMPTY = """
DO $$
DECLARE
  name text;
BEGIN
  SET LOCAL lock_timeout = '10s';
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
  CREATE SCHEMA public;
  EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
END
$$
"""
TABLES = (
    "workflows",
    "execution_pointers",
    "events",
    "event_subscriptions",
    "execution_errors",
    "scheduled_commands",
    "definition_sequences",
)
TABLES_THERE = "SELECT relname AS name FROM pg_class WHERE relnamespace = 'wfc'::regnamespace AND relkind = 'r'"

Rows = dict[str, list[dict[str, Any]]]


def make_rust_store(url: str, *changes: str) -> None:
    """Create the store of a Rust host, with rows; `changes` turn it into an older or an incompatible layout."""
    with psycopg.connect(url) as connection:
        for script in (RUST_LAYOUT, RUST_ROWS, *changes):
            connection.execute(script.encode())


@contextmanager
def engine_for(url: str) -> Iterator[Engine]:
    """An engine with `NullPool`, so that no connection stays open."""
    yield create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)


def upgrade_store(url: str, schema: str = "wfc", timeout: float = 60.0) -> None:
    """Upgrade the store, as a host does at startup."""
    with engine_for(url) as engine:
        store.ensure(engine, schema, timeout=timeout)


def differences(url: str, schema: str = "wfc") -> list[str]:
    with engine_for(url) as engine:
        return store.check(engine, schema)


def revision_of(url: str, schema: str = "wfc") -> str | None:
    with engine_for(url) as engine, engine.connect() as connection:
        return store.current_revision(connection, schema)


def layout_of(url: str, schema: str = "wfc") -> dict[str, str]:
    with engine_for(url) as engine, engine.connect() as connection:
        return store.catalogue(connection, schema)


def alembic(url: str, command: Callable[..., object], *arguments: object, schema: str = "wfc", **more: Any) -> None:
    """Run a function of `alembic.command` with the configuration of the checkout on the database of the test."""
    with engine_for(url) as engine:
        config = Config(str(ROOT / "alembic.ini"), attributes={"engine": engine, "schema": schema})
        command(config, *arguments, **more)


def rows_of(url: str, like: Rows | None = None) -> Rows:
    """All rows of the existing store tables, or only those tables and columns that are in `like`."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        there = {row["name"] for row in connection.execute(TABLES_THERE)}
        found = {
            name: connection.execute(f"SELECT * FROM wfc.{name} ORDER BY 1".encode()).fetchall()
            for name in sorted(there.intersection(TABLES if like is None else like))
        }
    if like is None:
        return found
    return {
        name: [{column: row[column] for column in row if column in like[name][0]} for row in rows]
        for name, rows in found.items()
    }
