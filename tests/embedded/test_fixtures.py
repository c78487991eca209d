"""The suite's own fixtures: databases apart, leaks noticed, processes of both kinds."""

import os
import signal
from typing import Literal

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests import conftest
from tests.conftest import InProcesses, Sql

Method = Literal["spawn", "fork"]


def name_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def count_tables(url: str) -> int:
    """Runs in processes, too."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'wfc'").fetchone()
    assert row
    return int(row[0])


def fail_or_die(way: str) -> None:
    if way == "fail":
        raise LookupError(way)
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_database_is_migrated_and_the_other_empty(database_url: str, empty_database_url: str) -> None:
    assert count_tables(database_url) >= 7
    assert count_tables(empty_database_url) == 0


def test_sql_works_on_the_test_s_database(database_url: str, sql: Sql) -> None:
    assert sql("CREATE TABLE made (number int)") == []
    assert sql("INSERT INTO made VALUES (%s), (%s) RETURNING number", [1, 2]) == [(1,), (2,)]
    assert sql("SELECT current_database()") == [(name_of(database_url),)]


def test_sql_follows_a_test_to_the_empty_database(empty_database_url: str, sql: Sql) -> None:
    assert sql("SELECT current_database()") == [(name_of(empty_database_url),)]


def test_a_database_is_dropped_even_when_it_is_in_use(server: str) -> None:
    with conftest._new_database(server, "template0") as url:
        connection = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with psycopg.connect(server) as admin:
        assert not admin.execute("SELECT FROM pg_database WHERE datname = %s", [name_of(url)]).fetchall()


@pytest.mark.parametrize(
    ("leak", "told"),
    [("SELECT 1", "is idle in transaction"), ("SELECT pg_advisory_xact_lock(1)", "holds a lock: advisory")],
)
def test_an_open_transaction_is_noticed(
    server: str, empty_database_url: str, leak: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "GRACE", 0.1)
    with psycopg.connect(empty_database_url) as connection:
        conftest._check_for_leaks(server, name_of(empty_database_url))
        connection.execute(leak.encode())
        with pytest.raises(pytest.fail.Exception, match=told):
            conftest._check_for_leaks(server, name_of(empty_database_url))


@pytest.mark.parametrize("method", ["spawn", "fork"])
class TestInProcesses:
    def test_the_results_come_in_order(
        self, in_processes: InProcesses, database_url: str, empty_database_url: str, method: Method
    ) -> None:
        assert in_processes(divmod, [(7, 2), (9, 4)], method=method) == [(3, 1), (2, 1)]
        tables, none = in_processes(count_tables, [(database_url,), (empty_database_url,)], method=method)
        assert tables >= 7
        assert none == 0

    def test_an_error_is_raised_here(self, in_processes: InProcesses, method: Method) -> None:
        with pytest.raises(LookupError, match="fail"):
            in_processes(fail_or_die, [("fail",)], method=method)

    def test_a_death_is_a_failure(self, in_processes: InProcesses, method: Method) -> None:
        with pytest.raises(pytest.fail.Exception, match="died"):
            in_processes(fail_or_die, [("die",)], method=method)
