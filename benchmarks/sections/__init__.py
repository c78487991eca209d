"""The sections in execution order; each module defines `run(scenario)`."""

from collections.abc import Callable

from benchmarks.scenario import Scenario
from benchmarks.sections import (
    calls,
    crowd,
    growth,
    hosts,
    imports,
    lists,
    loads,
    locks,
    memory,
    pauses,
    purge,
    saves,
    services,
    steps,
    threads,
    tight,
    waiting,
)

SECTIONS: dict[str, Callable[[Scenario], None]] = {
    "saves": saves.run,
    "loads": loads.run,
    "tight": tight.run,
    "growth": growth.run,
    "calls": calls.run,
    "lists": lists.run,
    "steps": steps.run,
    "hosts": hosts.run,
    "locks": locks.run,
    "waiting": waiting.run,
    "services": services.run,
    "threads": threads.run,
    "crowd": crowd.run,
    "purge": purge.run,
    "memory": memory.run,
    "imports": imports.run,
    "pauses": pauses.run,
}
DEFAULT = [name for name in SECTIONS if name != "pauses"]
"""All sections but one that takes minutes."""
