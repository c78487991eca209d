"""Providers of the services on PostgreSQL, stopped after the test, and holders of locks in processes of their own."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.faults.conftest import LONGEST
from tests.faults.kit.form import LONG
from tests.services.kit.holders import Holder
from wfe_postgres.services import PostgresLockProvider, PostgresQueueProvider, queue_waits


class MakeLocks(Protocol):
    """Makes a provider of locks on the database of the test, or on another one."""

    def __call__(self, url: str | None = None, **options: Any) -> PostgresLockProvider: ...


class MakeQueue(Protocol):
    """Makes a provider of the queue on the database of the test, or on another one."""

    def __call__(self, url: str | None = None, **options: Any) -> PostgresQueueProvider: ...


class StartHolder(Protocol):
    """Starts a process with a provider of locks."""

    def __call__(self, lease: float = 30.0, *, url: str | None = None, **options: Any) -> Holder: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout of all tests in the long form."""
    if LONG:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture
def make_locks(database_url: str) -> Iterator[MakeLocks]:
    """See `MakeLocks`."""
    made: list[PostgresLockProvider] = []

    def make(url: str | None = None, **options: Any) -> PostgresLockProvider:
        made.append(PostgresLockProvider(url or database_url, **options))
        return made[-1]

    yield make
    for locks in made:
        locks.close()


@pytest.fixture
def make_queue(database_url: str) -> Iterator[MakeQueue]:
    """See `MakeQueue`."""
    made: list[PostgresQueueProvider] = []

    def make(url: str | None = None, **options: Any) -> PostgresQueueProvider:
        made.append(PostgresQueueProvider(url or database_url, **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for work does not look into the queue by itself."""
    monkeypatch.setattr(queue_waits, "_FIRST_PAUSE", 600.0)
    monkeypatch.setattr(queue_waits, "SAFETY_INTERVAL", 600.0)


@pytest.fixture
def start_holder(database_url: str) -> Iterator[StartHolder]:
    """See `StartHolder`."""
    started: list[Holder] = []

    def start(lease: float = 30.0, *, url: str | None = None, **options: Any) -> Holder:
        started.append(Holder(url or database_url, lease, **options))
        return started[-1]

    yield start
    for holder in started:
        holder.kill()
