"""The conformance suite under the settings of others: of the database, of libpq's environment and of the engine, and
on the oldest server, with the collation of a language.

The short form combines them. In the long form each group of settings and each option of the engine is also alone.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.types.string import TextLoader
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.pool import NullPool, StaticPool

from tests.conformance.test_postgres import database
from tests.faults.kit.form import runs
from wfe_postgres import PersistenceProvider, PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.embedded.binaries import SYSTEM
from wfe_postgres.orm import SCHEMA, Base
from wfe_postgres.testing.conformance import Configure, LeaseConformance, SequentialConformance

Provider = PostgresPersistenceProvider

OLDEST = SYSTEM / "15" / "bin"

EMPTY = "; ".join(f"DELETE FROM {table.fullname}" for table in reversed(Base.metadata.sorted_tables)).encode()

OF_VALUES = {
    "TimeZone": "America/St_Johns",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "xmloption": "document",
    "default_text_search_config": "pg_catalog.german",
}
OF_TRANSACTIONS = {
    "default_transaction_isolation": "repeatable read",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "statement_timeout": "20s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "20s",
    "idle_session_timeout": "60s",
    "client_min_messages": "debug5",
    "row_security": "off",
    "search_path": "information_schema",
    "stats_fetch_consistency": "snapshot",
}
OF_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",  # it would compile each statement, because what is disabled costs much in PostgreSQL 15
    "work_mem": "64kB",
    "enable_indexscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "geqo_threshold": "2",
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
    "constraint_exclusion": "on",
}
ENVIRONMENT = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Apia",
    "PGDATESTYLE": "Postgres, DMY",
    "PGGEQO": "off",
    "PGOPTIONS": "-c standard_conforming_strings=off -c default_transaction_isolation=serializable",
    "PGAPPNAME": "somebody's",
}


def customized(driver: psycopg.Connection[Any], _: object) -> None:
    """Loaders and settings of an application's, set when a connection is made."""

    class Upper(TextLoader):
        def load(self, data: Any) -> Any:
            text = super().load(data)
            return text.upper() if isinstance(text, str) else text

    driver.adapters.register_loader("varchar", Upper)
    driver.prepare_threshold = 0


@dataclass(frozen=True)
class Surroundings:
    """What surrounds a provider; `is_own`: with its own engine, otherwise on an application's."""

    defaults: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    is_own: bool = True
    is_oldest: bool = False
    """On the oldest supported server, if it is installed, and in a database that sorts as Turkish does."""

    @contextmanager
    def provider(self, url: str) -> Iterator[PostgresPersistenceProvider]:
        """A provider in these surroundings."""
        if self.is_own:
            with Provider(url, **self.options) as provider:
                yield provider
            return
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), **self.options)
        event.listen(engine, "connect", customized)
        yield Provider.from_engine(engine)
        engine.dispose()


OPTIONS: dict[str, dict[str, Any]] = {
    "AUTOCOMMIT": {"isolation_level": "AUTOCOMMIT"},
    "SERIALIZABLE": {"isolation_level": "SERIALIZABLE"},
    "pre_ping": {"pool_pre_ping": True},
    "NullPool": {"poolclass": NullPool},
    "StaticPool": {"poolclass": StaticPool},
    "no reset": {"pool_reset_on_return": None},
    "commit on return": {"pool_reset_on_return": "commit"},
    "prepared at once": {"connect_args": {"prepare_threshold": 0}},
    "never prepared": {"connect_args": {"prepare_threshold": None}},
    "autocommit connections": {"connect_args": {"autocommit": True}},
    "client-side cursors": {"connect_args": {"cursor_factory": psycopg.ClientCursor}},
    "no hstore": {"use_native_hstore": False},
    "another JSON": {"json_serializer": partial(json.dumps, indent=3), "json_deserializer": repr},
    "translated": {"execution_options": {"schema_translate_map": {SCHEMA: "elsewhere", None: "nowhere"}}},
    "no cache": {"query_cache_size": 0},
    "echo": {"echo": "debug"},
}


def options_of(*names: str) -> dict[str, Any]:
    """These options together."""
    together: dict[str, Any] = {}
    for name in names:
        together |= OPTIONS[name]
        if "connect_args" in OPTIONS[name]:
            together["connect_args"] = together.get("connect_args", {}) | OPTIONS[name]["connect_args"]
    return together


TOGETHER = {
    "own engine": Surroundings(
        OF_VALUES | OF_TRANSACTIONS,
        ENVIRONMENT,
        options_of("AUTOCOMMIT", "pre_ping", "NullPool", "prepared at once", "another JSON", "no cache"),
    ),
    "application's engine": Surroundings(
        OF_VALUES | OF_PLANS,
        {},
        options_of("SERIALIZABLE", "StaticPool", "no reset", "never prepared", "translated", "no hstore"),
        is_own=False,
        is_oldest=True,
    ),
}
ALONE = {
    "oldest server": Surroundings(is_oldest=True),
    "values": Surroundings(OF_VALUES),
    "transactions": Surroundings(OF_TRANSACTIONS),
    "plans": Surroundings(OF_PLANS),
    "environment": Surroundings(environment=ENVIRONMENT),
    **{f"own engine, {name}": Surroundings(options=OPTIONS[name]) for name in OPTIONS},
    **{f"application's engine, {name}": Surroundings(options=OPTIONS[name], is_own=False) for name in OPTIONS},
}
CHOSEN = TOGETHER | runs({}, ALONE)


@pytest.fixture(scope="class", params=list(CHOSEN.values()), ids=list(CHOSEN))
def surroundings(request: pytest.FixtureRequest) -> Iterator[Surroundings]:
    """What surrounds the provider of the class."""
    chosen: Surroundings = request.param
    with pytest.MonkeyPatch.context() as patched:
        for name, value in chosen.environment.items():
            patched.setenv(name, value)
        yield chosen


@pytest.fixture(scope="class")
def url(server: str, template: str, surroundings: Surroundings) -> Iterator[str]:
    """A database that all tests of the class share."""
    with ExitStack() as stack:
        options = ""
        if surroundings.is_oldest and (OLDEST / "initdb").is_file():
            server = stack.enter_context(EmbeddedPostgres(binaries=OLDEST)).url
            template, options = "template0", "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'"
        yield stack.enter_context(database(server, template, surroundings.defaults, options))


@pytest.fixture(scope="class")
def store(url: str, surroundings: Surroundings) -> Iterator[PostgresPersistenceProvider]:
    """A provider on it."""
    with surroundings.provider(url) as provider:
        provider.ensure_store_exists()
        yield provider


@pytest.fixture(scope="class")
def administrator(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to it that bypasses the provider."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


class TestInSurroundings(SequentialConformance, LeaseConformance):
    """Each call by itself."""

    @pytest.fixture
    def provider(
        self, store: PostgresPersistenceProvider, administrator: psycopg.Connection[Any]
    ) -> PersistenceProvider:
        administrator.execute(EMPTY)
        return store

    @pytest.fixture
    def configure(self, store: PostgresPersistenceProvider) -> Configure:
        return partial(PostgresPersistenceProvider.from_engine, store.engine)
