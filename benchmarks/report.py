"""What a run found, as JSON, as a table for people, and from both a picture."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Race
from benchmarks.picture import draw
from benchmarks.scenario import Row, Target

RESULTS = Path(__file__).with_name("results")

_FLOOR = (
    "The floor is the same work hand-written in psycopg: one prepared statement in autocommit on an open connection,"
    " the same objects out and the same rows in, and nothing else: no pool, no deadline, no retry, no check of the"
    " input. It finds out what a save has to send by encoding every pointer and comparing; the stricter floor is told."
)


@dataclass(frozen=True)
class Report:
    """Everything that a run found."""

    name: str
    date: str
    seconds: float
    machine: dict[str, Any]
    rows: Sequence[Row]
    races: Sequence[Race]
    sections: Mapping[str, float]
    """How many seconds each section took."""

    def write(self, directory: Path = RESULTS) -> list[Path]:
        """Write `<name>.json`, `.md` and `.svg`; give their paths."""
        directory.mkdir(exist_ok=True)
        document = self.document()
        contents = {
            "json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
            "md": self.markdown(),
            "svg": draw(document),
        }
        paths = [directory / f"{self.name}.{kind}" for kind in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            path.write_text(content, encoding="utf-8")
        return paths

    def document(self) -> dict[str, Any]:
        """The report as JSON; times are in milliseconds."""
        return {
            "name": self.name,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "sections": {name: round(seconds, 1) for name, seconds in self.sections.items()},
            **self.machine,
            "rows": [asdict(row) | {"met": row.met} for row in self.rows],
            "races": [_race_document(race) for race in self.races],
        }

    def markdown(self) -> str:
        """The targets, what was measured, and the medians behind it."""
        return "\n".join((*self._head(), *_targets(self.rows), "", *_medians(self.races), ""))

    def _head(self) -> Iterator[str]:
        machine = self.machine
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        settings = ", ".join(f"{name} {value}" for name, value in machine["server"].items() if name != "server_version")
        yield f"# Benchmark, {self.name} form, {self.date}"
        yield ""
        yield f"{machine['machine']}. Python {machine['python']}, {packages}."
        yield ""
        yield (
            f"PostgreSQL {machine['server']['server_version']} ({settings}); a round trip takes"
            f" {machine['round_trip']:.3f} ms, {machine['round_trip_delayed']:.2f} ms with a delay of 1 ms each way,"
            f" a commit {machine['commit']:.2f} ms."
        )
        yield ""
        yield _FLOOR
        yield ""


def show_value(row: Row) -> str:
    """The measured value and its interval, for people."""
    value = _number(row.value)
    shown = f"{value}x" if row.unit == "x" else f"{value} {row.unit}".strip()
    return shown if row.low is None or row.high is None else f"{shown} ({_number(row.low)}-{_number(row.high)})"


def show_target(target: Target | None) -> str:
    """What was asked, for people."""
    return "" if target is None else f"{'≥' if target.at_least else '≤'} {target.limit:g}"


def show_met(row: Row) -> str:
    """Whether it is so, for people."""
    return {None: "", True: "met", False: "not met"}[row.met]


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _targets(rows: Sequence[Row]) -> Iterator[str]:
    yield "| work | measured | value | target | |"
    yield "| --- | --- | ---: | ---: | --- |"
    for row in rows:
        if row.target:
            yield f"| {row.work} | {row.measured} | {show_value(row)} | {show_target(row.target)} | {show_met(row)} |"
    yield ""
    yield "## Also measured"
    yield ""
    yield "| work | measured | value |"
    yield "| --- | --- | ---: |"
    for row in rows:
        if not row.target:
            yield f"| {row.work} | {row.measured} | {show_value(row)} |"


def _medians(races: Sequence[Race]) -> Iterator[str]:
    yield "## Medians"
    yield ""
    yield "In milliseconds: the median, the range from the 10th to the 90th of 100 calls, what Python computed."
    for race in races:
        yield ""
        yield f"**{race.title}**"
        yield ""
        yield "| way | median | 10-90 | client's CPU | calls | round trips |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        for way, it in _race_document(race)["ways"].items():
            trips = it.get("round_trips", "")
            spread = f"{it['p10']:.3f}-{it['p90']:.3f}"
            yield f"| {way} | {it['median']:.3f} | {spread} | {it.get('cpu', '')} | {it['calls']} | {trips} |"


def _race_document(race: Race) -> dict[str, Any]:
    ways = {way: _way_document(times) for way, times in race.times.items()}
    for way, computing in race.cpu.items():
        ways[way]["cpu"] = round(statistics.median(computing) * 1000, 3)
    for way, trips in race.round_trips.items():
        ways[way]["round_trips"] = trips
    return {"title": race.title, "ways": ways}


def _way_document(times: Sequence[float]) -> dict[str, Any]:
    tenths = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else [times[0]] * 9
    return {
        "median": round(statistics.median(times) * 1000, 4),
        "p10": round(tenths[0] * 1000, 4),
        "p90": round(tenths[-1] * 1000, 4),
        "calls": len(times),
    }
