"""The results of a run as JSON, Markdown and SVG."""

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

_BASELINE = (
    "The baseline is a hand-written psycopg implementation: one prepared statement in autocommit on an open connection,"
    " with the same objects and rows and orjson, but without pool, timeout, retry and validation. It finds the changes"
    " of a save by comparing with what it kept at the load; the baseline with known changes is told what has changed."
)
_TURNS = (
    "The implementations take turns call by call, in random order, so that each call comes after other code: of seven"
    " implementations, or among three only of the baseline and the Rust algorithm. In a tight loop an implementation"
    " makes hundreds of consecutive calls, then the other does; the times are the medians of turns."
)


@dataclass(frozen=True)
class Report:
    """The results of a run."""

    name: str
    date: str
    seconds: float
    machine: dict[str, Any]
    rows: Sequence[Row]
    races: Sequence[Race]
    sections: Mapping[str, float]
    """The duration of each section in seconds."""

    def write(self, directory: Path = RESULTS) -> list[Path]:
        """Write `<name>.json`, `.md` and `.svg`; return their paths."""
        directory.mkdir(exist_ok=True)
        content = self.as_dict()
        contents = {
            "json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
            "md": self.markdown(),
            "svg": draw(content),
        }
        paths = [directory / f"{self.name}.{kind}" for kind in contents]
        for path, text in zip(paths, contents.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON; times are in milliseconds."""
        return {
            "name": self.name,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "sections": {name: round(seconds, 1) for name, seconds in self.sections.items()},
            **self.machine,
            "rows": [asdict(row) | {"met": row.met} for row in self.rows],
            "races": [_race_dict(race) for race in self.races],
        }

    def markdown(self) -> str:
        """The targets, the measured values and the medians."""
        return "\n".join((*self._head(), *_targets(self.rows), "", *_medians(self.races), ""))

    def _head(self) -> Iterator[str]:
        machine = self.machine
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        settings = ", ".join(f"{name} {value}" for name, value in machine["server"].items() if name != "server_version")
        yield f"# Benchmark, {self.name} run, {self.date}"
        yield ""
        yield f"{machine['machine']}. Python {machine['python']}, {packages}."
        yield ""
        yield (
            f"PostgreSQL {machine['server']['server_version']} ({settings}); a round trip takes"
            f" {machine['round_trip']:.3f} ms, {machine['round_trip_delayed']:.2f} ms with a delay of 1 ms each way,"
            f" a commit {machine['commit']:.2f} ms."
        )
        yield ""
        yield _BASELINE
        yield ""
        yield _TURNS
        yield ""


def show_value(row: Row) -> str:
    """The formatted value with its interval."""
    value = _number(row.value)
    shown = f"{value}x" if row.unit == "x" else f"{value} {row.unit}".strip()
    return shown if row.low is None or row.high is None else f"{shown} ({_number(row.low)}-{_number(row.high)})"


def show_target(target: Target | None) -> str:
    """The formatted target."""
    return "" if target is None else f"{'≥' if target.at_least else '≤'} {target.limit:g}"


def show_met(row: Row) -> str:
    """Whether the target is met, as text."""
    return {None: "", True: "met", False: "not met"}[row.met]


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows whose targets were missed, then those whose targets were met, then the others."""
    return sorted(rows, key=lambda row: [False, True, None].index(row.met))


def _targets(rows: Sequence[Row]) -> Iterator[str]:
    yield "| work | measured | value | target | |"
    yield "| --- | --- | ---: | ---: | --- |"
    for row in ranked(rows):
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
    yield "In milliseconds: the median, the 10th and 90th percentile, and the CPU time of the client."
    for race in races:
        yield ""
        yield f"**{race.title}**"
        yield ""
        yield "| implementation | median | 10-90 | client's CPU | calls | round trips |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        for implementation, it in _race_dict(race)["implementations"].items():
            trips = it.get("round_trips", "")
            spread = f"{it['p10']:.3f}-{it['p90']:.3f}"
            cells = (implementation, f"{it['median']:.3f}", spread, it.get("cpu", ""), it["calls"], trips)
            yield f"| {' | '.join(map(str, cells))} |"


def _race_dict(race: Race) -> dict[str, Any]:
    implementations = {implementation: _timing_dict(times) for implementation, times in race.times.items()}
    for implementation, computing in race.cpu.items():
        implementations[implementation]["cpu"] = round(statistics.median(computing) * 1000, 3)
    for implementation, trips in race.round_trips.items():
        implementations[implementation]["round_trips"] = trips
    return {"title": race.title, "implementations": implementations}


def _timing_dict(times: Sequence[float]) -> dict[str, Any]:
    tenths = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else [times[0]] * 9
    return {
        "median": round(statistics.median(times) * 1000, 4),
        "p10": round(tenths[0] * 1000, 4),
        "p90": round(tenths[-1] * 1000, 4),
        "calls": len(times),
    }
