"""Effects of steps, and hosts in processes that are killed at the end of the test."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from tests.faults.conftest import LONGEST
from tests.faults.kit.form import LONG
from tests.host_faults.kit import effects as steps
from tests.host_faults.kit.effects import Effects, eventually
from tests.host_faults.kit.processes import HostProcess, Setup
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import WorkflowDefinition


class StartHost(Protocol):
    """Starts a process with a host of these definitions; `options` are those of `WorkflowHost`."""

    def __call__(
        self,
        *definitions: Callable[[], WorkflowDefinition],
        url: str | None = None,
        transactional: bool = False,
        locks: dict[str, Any] | None = None,
        provider_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> HostProcess: ...


class Settled(Protocol):
    """Waits until each workflow has one of the statuses (Complete), and returns the workflows."""

    def __call__(
        self, ids: Sequence[str], *statuses: WorkflowStatus, timeout: float = steps.TIMEOUT
    ) -> list[WorkflowInstance]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout of all tests in the long form."""
    if LONG:
        for item in items:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture
def effects(database_url: str) -> Iterator[Effects]:
    """The effects of this test's steps; hosts in this process write them, too."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        found = Effects(connection)
        steps.connect(database_url)
        yield found
        steps.disconnect()


@pytest.fixture
def start_host(database_url: str, effects: Effects, tmp_path: Path) -> Iterator[StartHost]:
    """See `StartHost`."""
    started: list[HostProcess] = []

    def start(
        *definitions: Callable[[], WorkflowDefinition],
        url: str | None = None,
        transactional: bool = False,
        locks: dict[str, Any] | None = None,
        provider_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> HostProcess:
        log = tmp_path / f"host-{len(started)}.log"
        started.append(
            HostProcess(
                Setup(
                    url or database_url,
                    database_url,
                    log,
                    definitions,
                    transactional,
                    locks,
                    provider_options or {},
                    options,
                )
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def settled(provider: PostgresPersistenceProvider, effects: Effects) -> Settled:
    """See `Settled`."""

    def wait(ids: Sequence[str], *statuses: WorkflowStatus, timeout: float = steps.TIMEOUT) -> list[WorkflowInstance]:
        expected = {it.value for it in statuses or (WorkflowStatus.COMPLETE,)}
        eventually(lambda: expected >= set(effects.statuses(ids)), timeout, lambda: effects.statuses(ids))
        return provider.get_workflow_instances(ids)

    return wait
