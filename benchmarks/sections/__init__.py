"""What is measured, in this order; each module has `run(stage)`."""

from collections.abc import Callable

from benchmarks.scenario import Stage
from benchmarks.sections import calls, crowd, growth, imports, lists, loads, memory, purge, saves, steps, threads

SECTIONS: dict[str, Callable[[Stage], None]] = {
    "saves": saves.run,
    "loads": loads.run,
    "growth": growth.run,
    "calls": calls.run,
    "lists": lists.run,
    "steps": steps.run,
    "threads": threads.run,
    "crowd": crowd.run,
    "purge": purge.run,
    "memory": memory.run,
    "imports": imports.run,
}
