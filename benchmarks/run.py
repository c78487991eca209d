"""A run: sections on a stage, their rows and races as a report."""

import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.harness import Progress
from benchmarks.machine import describe
from benchmarks.plan import Plan
from benchmarks.report import Report
from benchmarks.scenario import Stage, open_stage
from benchmarks.sections import SECTIONS
from benchmarks.server import Server


def run(plan: Plan, server: Server, progress: Progress, only: Sequence[str] = ()) -> Report:
    """Run the sections of these names, or all, and give what they found."""
    begin = time.monotonic()
    date = datetime.now(UTC).date().isoformat()
    with open_stage(plan, server, progress) as stage:
        machine = describe(server, stage.far.through(server.url))
        try:
            sections = {name: _time(stage, name) for name in only or SECTIONS}
        finally:
            gc.unfreeze()
    name = "-".join((plan.name, *only))
    return Report(name, date, time.monotonic() - begin, machine, stage.rows, stage.races, sections)


def _time(stage: Stage, section: str) -> float:
    """Run the section; how many seconds it took."""
    begin = time.monotonic()
    stage.section = section
    stage.progress.section(section)
    SECTIONS[section](stage)
    return time.monotonic() - begin
