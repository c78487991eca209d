"""The command: `python -m benchmarks [--quick] [--only SECTION ...] [--server DIRECTORY] [--name NAME]`."""

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers import installed_peers
from benchmarks.plan import FULL, QUICK
from benchmarks.progress import bars
from benchmarks.report import RESULTS, Report, ranked, show_met, show_target, show_value
from benchmarks.run import run
from benchmarks.sections import DEFAULT, SECTIONS
from benchmarks.server import durable_server

WIDTH = 130  # characters, if the output is not a terminal
COLOURS = {None: "", True: "green", False: "red"}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks, print a table, and write `benchmarks/results/<name>.json`, `.md` and `.svg`."""
    chosen = _options(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    if missing := {"DBOS", "LangGraph"} - installed_peers().keys():
        console.print(f"skipped, because not installed: {', '.join(sorted(missing))} (extra `bench`)")
    plan = QUICK if chosen.quick else FULL
    with durable_server(chosen.server) as server, bars(console, len(chosen.only or DEFAULT)) as progress:
        if chosen.server:
            plan = replace(plan, name=f"{plan.name}-{server.version()}")
        report = run(plan, server, progress, chosen.only)
    if chosen.name:
        report = replace(report, name=chosen.name)
    console.print(_table(report))
    for path in report.write(chosen.results):
        console.print(f"written: {path}", soft_wrap=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, less than a minute; results are noisy")
    parser.add_argument(
        "--only", action="append", default=[], choices=[*SECTIONS], help="run only this section (repeatable)"
    )
    parser.add_argument(
        "--server", type=Path, metavar="DIRECTORY", help="initdb and postgres of the server, e.g. of another version"
    )
    parser.add_argument("--name", help="name of the results; the default is composed of the options")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for the results")
    return parser.parse_args(arguments)


def _table(report: Report) -> Table:
    table = Table(title=f"{report.name} run, {report.seconds:.0f} s: {report.machine['machine']}")
    for heading in ("work", "measured"):
        table.add_column(heading)
    for heading in ("value", "target"):
        table.add_column(heading, justify="right")
    table.add_column()
    section: tuple[str, bool | None] | None = None
    for row in ranked(report.rows):
        if section not in (None, (row.section, row.met)):
            table.add_section()
        section = row.section, row.met
        cells = (row.work, row.measured, show_value(row), show_target(row.target), show_met(row))
        table.add_row(*cells, style=COLOURS[row.met])
    return table


if __name__ == "__main__":
    main()
