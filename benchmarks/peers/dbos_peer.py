"""DBOS Transact (PyPI `dbos`): a workflow function with recorded steps, as in its documentation."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any

from benchmarks.harness import Call


@contextmanager
def dbos_workflow(url: str, steps: int) -> Iterator[Call]:
    """See `Peer`. DBOS runs with default settings and creates its system tables in this database."""
    with _launched(url) as workflow:
        yield partial(workflow, steps)


@contextmanager
def dbos_engine(url: str, steps: int, threads: int, ended: Callable[[], object]) -> Iterator[Callable[[int], object]]:
    """See `Engine`. Each workflow runs in one of the threads."""

    def has_ended(workflow: "Future[None]") -> None:
        workflow.result()
        ended()

    with _launched(url) as workflow, ThreadPoolExecutor(threads) as pool:

        def start(workflows: int) -> None:
            for _ in range(workflows):
                pool.submit(workflow, steps).add_done_callback(has_ended)

        yield start


@contextmanager
def _launched(url: str) -> Iterator[Callable[[int], None]]:
    library, workflow = _registered()
    name = f"process-{os.getpid()}"  # each process recovers its own workflows only
    config = {"name": "bench", "system_database_url": url, "log_level": "ERROR", "executor_id": name}
    library.DBOS(config=config)
    library.DBOS.launch()
    try:
        yield workflow
    finally:
        library.DBOS.destroy()


@cache
def _registered() -> tuple[Any, Callable[[int], None]]:
    """The library and the workflow function, which can be registered only once per process."""
    library: Any = import_module("dbos")

    def charge(step: int) -> dict[str, Any]:
        return {"done": step, "charged": {"amount": 1995, "currency": "EUR"}, "note": "as ordered"}

    recorded = library.DBOS.step()(charge)

    def order(steps: int) -> None:
        for step in range(steps):
            recorded(step)

    return library, library.DBOS.workflow()(order)
