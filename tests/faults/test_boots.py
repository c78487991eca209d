"""Concurrent migrations by several processes, some of which are killed: the remaining ones complete the migration."""

import os
import random
import signal
from multiprocessing.synchronize import Barrier

import pytest
from alembic import command
from sqlalchemy import Engine, event

from tests.conftest import Sql
from tests.faults.kit import counters
from tests.faults.kit.form import runs
from tests.migrations.forking import FORKING
from tests.migrations.stores import MANY_EVENTS, alembic, differences, make_rust_store
from wfe_postgres import PostgresPersistenceProvider

VICTIMS = 6
SURVIVORS = 2
LAST = 20  # upper limit of the statements that a killed process sends; an upgrade from revision 0003 takes as many
TIMEOUT = 60.0


def boot(url: str, start: Barrier, last: int | None) -> None:
    """Call `ensure_store_exists`; the process kills itself after `last` statements that are not SELECTs."""
    sent = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(connection: object, cursor: object, statement: str, *_: object) -> None:
        nonlocal sent
        sent += not statement.lstrip().startswith("SELECT")  # a process that waits for the lock sends only SELECTs
        if sent == last:
            os.kill(os.getpid(), signal.SIGKILL)

    start.wait(TIMEOUT)
    with PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()


def boot_together(url: str, lasts: list[int | None]) -> list[int | None]:
    """Run the processes concurrently and return their exit codes."""
    start = FORKING.Barrier(len(lasts))
    hosts = [FORKING.Process(target=boot, args=(url, start, last)) for last in lasts]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join(TIMEOUT)
        host.kill()
    return [host.exitcode for host in hosts]


@pytest.mark.parametrize("layout", ["none", "of a Rust host", "older"])
def test_concurrent_migrations_complete_when_some_processes_are_killed(
    empty_database_url: str, sql: Sql, layout: str
) -> None:
    chance = random.Random(layout)
    killed = 0
    for _ in range(runs(1, 8)):
        sql("DROP SCHEMA IF EXISTS wfc CASCADE")
        sql("DROP TABLE IF EXISTS public._sqlx_migrations")
        if layout == "of a Rust host":
            make_rust_store(empty_database_url, MANY_EVENTS)
        elif layout == "older":
            alembic(empty_database_url, command.upgrade, "0003")
        lasts = [*(chance.randrange(1, LAST) for _ in range(VICTIMS)), *[None] * SURVIVORS]
        ends = boot_together(empty_database_url, lasts)
        assert ends[VICTIMS:] == [0] * SURVIVORS
        assert set(ends) <= {0, -signal.SIGKILL}
        killed += ends.count(-signal.SIGKILL)
        assert differences(empty_database_url) == []
    assert killed > 0
    counters.count("boots", faults=killed)
