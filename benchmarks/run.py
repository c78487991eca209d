"""Runs the sections and returns a report."""

import gc
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.harness import Progress
from benchmarks.machine import describe
from benchmarks.plan import Plan
from benchmarks.report import Report
from benchmarks.scenario import Scenario, open_scenario
from benchmarks.sections import DEFAULT, SECTIONS
from benchmarks.server import Server


def run(plan: Plan, server: Server, progress: Progress, only: Sequence[str] = ()) -> Report:
    """Run the sections with these names, or the default ones, and return the report."""
    begin = time.monotonic()
    date = datetime.now(UTC).date().isoformat()
    with open_scenario(plan, server, progress) as scenario:
        machine = describe(server, scenario.far.through(server.url))
        try:
            sections = {name: _time(scenario, name) for name in only or DEFAULT}
        finally:
            gc.unfreeze()
    name = "-".join((plan.name, *only))
    return Report(name, date, time.monotonic() - begin, machine, scenario.rows, scenario.races, sections)


def _time(scenario: Scenario, section: str) -> float:
    """Run the section and return its duration in seconds."""
    begin = time.monotonic()
    scenario.section = section
    scenario.progress.section(section)
    SECTIONS[section](scenario)
    return time.monotonic() - begin
