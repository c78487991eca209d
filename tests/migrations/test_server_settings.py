"""Settings of the database or the role that would stop a migration, or make the catalogue look different."""

import psycopg
import pytest
from alembic import command

from tests.conftest import Sql
from tests.migrations.printed import apply, printed
from tests.migrations.stores import MANY_EVENTS, differences, make_rust_store, revision_of, upgrade_store
from tests.migrations.test_live_tables import BUILDING, in_a_thread, wait_until
from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.schema import HEAD, upgrade_script


def set_for_database(sql: Sql, **settings: str) -> None:
    [(name,)] = sql("SELECT current_database()")
    for setting, value in settings.items():
        sql(f"ALTER DATABASE {name} SET {setting} = '{value}'")


@pytest.mark.parametrize("way", ["ensure", "script"])
def test_quote_all_identifiers_makes_no_difference(empty_database_url: str, sql: Sql, way: str) -> None:
    set_for_database(sql, quote_all_identifiers="on")
    make_rust_store(empty_database_url)
    if way == "script":
        assert apply(empty_database_url, printed(command.upgrade, "head")) == ""
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout", "transaction_timeout"])
@pytest.mark.parametrize("way", ["ensure", "script"])
def test_timeouts_of_database_do_not_end_an_index_build(
    empty_database_url: str, sql: Sql, setting: str, way: str
) -> None:
    """The build waits for a transaction that is open for longer than that."""
    if setting not in dict(sql("SELECT name, '' FROM pg_settings")):
        pytest.skip("not in this version of PostgreSQL")
    if (setting, way) == ("transaction_timeout", "script"):
        pytest.skip("psql is told nothing of it, because older servers refuse the name")
    make_rust_store(empty_database_url, MANY_EVENTS)
    set_for_database(sql, **{setting: "300ms"})
    with psycopg.connect(empty_database_url) as other:
        other.execute(f"SET {setting} = 0")
        other.commit()
        other.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        upgrade = upgrade_store if way == "ensure" else run_script
        with in_a_thread(upgrade, empty_database_url) as upgraded:
            wait_until(lambda: sql(f"{BUILDING} AND clock_timestamp() - query_start > '1 s'"))
            other.commit()
            upgraded.result(timeout=30)
    assert differences(empty_database_url) == []


def run_script(url: str) -> None:
    assert apply(url, upgrade_script()) == ""


def test_connections_of_the_provider_keep_the_timeouts(empty_database_url: str, sql: Sql) -> None:
    """A migration has connections of its own, which it closes."""
    set_for_database(sql, statement_timeout="300ms")
    with PostgresPersistenceProvider(empty_database_url) as provider:
        provider.ensure_store_exists()
        with provider.engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "300ms"


def test_cancelled_index_build_is_explained_and_repeated(empty_database_url: str, sql: Sql) -> None:
    """As when a connection pooler keeps the timeout of the role."""
    make_rust_store(empty_database_url, MANY_EVENTS)
    with psycopg.connect(empty_database_url) as other, in_a_thread(upgrade_store, empty_database_url) as upgrade:
        other.execute("UPDATE wfc.events SET is_processed = true WHERE id = 'many1'")
        wait_until(lambda: sql(BUILDING))
        sql(f"SELECT pg_cancel_backend(pid) FROM ({BUILDING}) AS building")
        with pytest.raises(StoreNotReadyError, match=r"raise statement_timeout; .* goes on where it stopped"):
            upgrade.result(timeout=30)
        other.commit()
    assert revision_of(empty_database_url) == "0005"
    assert sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(1,)]
    upgrade_store(empty_database_url)
    assert (revision_of(empty_database_url), differences(empty_database_url)) == (HEAD, [])


def test_foreign_key_of_application_to_replaced_key_is_named(empty_database_url: str, sql: Sql) -> None:
    make_rust_store(empty_database_url)
    sql("CREATE TABLE public.notes (pointer TEXT CONSTRAINT notes_pointer REFERENCES wfc.execution_pointers)")
    with pytest.raises(
        StoreNotReadyError, match=r"drop what depends on the store's keys.* constraint notes_pointer on"
    ):
        upgrade_store(empty_database_url)
    sql("ALTER TABLE public.notes DROP CONSTRAINT notes_pointer")
    upgrade_store(empty_database_url)
    assert differences(empty_database_url) == []
