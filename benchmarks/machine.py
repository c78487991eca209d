"""The environment of a run: machine, versions, server settings, and the durations of a round trip and a commit."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.implementations.baseline import connect
from benchmarks.server import Server

PACKAGES = ("wfe-postgres", "SQLAlchemy", "psycopg", "dbos", "langgraph-checkpoint-postgres")

_REPEATS = 200


def describe(server: Server, delayed_url: str) -> dict[str, Any]:
    """The environment that is needed to compare results; times are in milliseconds.

    `delayed_url` is the URL of the server through the proxy.
    """
    return {
        "machine": f"{os.cpu_count()} x {_processor()}, {_memory()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "psycopg_implementation": psycopg.pq.__impl__,
        "server": server.settings(),
        "round_trip": _round_trip(server.url),
        "round_trip_delayed": _round_trip(delayed_url),
        "commit": _commit(server.url),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "unknown memory"
    return f"{pages / 2**30:.0f} GB"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _round_trip(url: str) -> float:
    with connect(url) as connection:
        return _median(lambda: connection.execute("SELECT 1"))


def _commit(url: str) -> float:
    """The duration of an update of one row, including the commit."""
    with connect(url) as connection:
        connection.execute("CREATE TABLE wfe_bench_pace AS SELECT 0 AS value")
        try:
            return _median(lambda: connection.execute("UPDATE wfe_bench_pace SET value = value + 1"))
        finally:
            connection.execute("DROP TABLE wfe_bench_pace")


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000
