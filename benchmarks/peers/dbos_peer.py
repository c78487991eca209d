"""DBOS Transact (PyPI `dbos`): a workflow function with recorded steps, as in its documentation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from typing import Any

from benchmarks.harness import Call


@contextmanager
def dbos_workflow(url: str, steps: int) -> Iterator[Call]:
    """See `Peer`. DBOS runs with default settings and creates its system tables in this database."""
    library, workflow = _registered()
    library.DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
    library.DBOS.launch()
    try:
        yield partial(workflow, steps)
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
