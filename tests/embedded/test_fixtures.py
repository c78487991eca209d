"""Tests of the fixtures in `tests/conftest.py`: separate databases, leak detection, processes."""

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
    """The number of tables in the schema; also called in subprocesses."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'wfc'").fetchone()
    assert row
    return int(row[0])


def fail_or_die(action: str) -> None:
    if action == "fail":
        raise LookupError(action)
    os.kill(os.getpid(), signal.SIGKILL)


def test_database_is_migrated_and_empty_database_is_empty(database_url: str, empty_database_url: str) -> None:
    assert count_tables(database_url) >= 7
    assert count_tables(empty_database_url) == 0


def test_sql_uses_the_database_of_the_test(database_url: str, sql: Sql) -> None:
    assert sql("CREATE TABLE made (number int)") == []
    assert sql("INSERT INTO made VALUES (%s), (%s) RETURNING number", [1, 2]) == [(1,), (2,)]
    assert sql("SELECT current_database()") == [(name_of(database_url),)]


def test_sql_uses_the_empty_database_if_requested(empty_database_url: str, sql: Sql) -> None:
    assert sql("SELECT current_database()") == [(name_of(empty_database_url),)]


def test_database_in_use_is_dropped(server: str) -> None:
    with conftest._new_database(server, "template0") as url:
        connection = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    with psycopg.connect(server) as admin:
        assert not admin.execute("SELECT FROM pg_database WHERE datname = %s", [name_of(url)]).fetchall()


@pytest.mark.parametrize(
    ("leak", "message"),
    [("SELECT 1", "is idle in transaction"), ("SELECT pg_advisory_xact_lock(1)", "holds a lock: advisory")],
)
def test_open_transaction_fails_the_test(
    server: str, empty_database_url: str, leak: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "GRACE", 0.1)
    with psycopg.connect(empty_database_url) as connection:
        conftest._check_for_leaks(server, name_of(empty_database_url))
        connection.execute(leak.encode())
        with pytest.raises(pytest.fail.Exception, match=message):
            conftest._check_for_leaks(server, name_of(empty_database_url))


@pytest.mark.parametrize("method", ["spawn", "fork"])
class TestInProcesses:
    def test_results_are_in_order_of_arguments(
        self, in_processes: InProcesses, database_url: str, empty_database_url: str, method: Method
    ) -> None:
        assert in_processes(divmod, [(7, 2), (9, 4)], method=method) == [(3, 1), (2, 1)]
        tables, none = in_processes(count_tables, [(database_url,), (empty_database_url,)], method=method)
        assert tables >= 7
        assert none == 0

    def test_exception_in_process_is_raised(self, in_processes: InProcesses, method: Method) -> None:
        with pytest.raises(LookupError, match="fail"):
            in_processes(fail_or_die, [("fail",)], method=method)

    def test_killed_process_fails_the_test(self, in_processes: InProcesses, method: Method) -> None:
        with pytest.raises(pytest.fail.Exception, match="died"):
            in_processes(fail_or_die, [("die",)], method=method)
