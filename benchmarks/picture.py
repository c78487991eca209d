"""The chart of a run as an SVG, with colours for light and dark backgrounds.

Left: the duration of a save by the size of the workflow, with logarithmic axes. Right: durable steps per second, with a
direct and with a delayed connection.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 920, 400
SIZES = (1, 10, 100, 1000, 3000)

# Colours by role: for a light and for a dark background.
_COLOURS = {
    "page": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "quiet": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "ours": ("#0969da", "#58a6ff"),
    "rust": ("#bc4c00", "#f0883e"),
    "orm": ("#8250df", "#bc8cff"),
    "other": ("#8c959f", "#7d8590"),
}
_SHAPES = """
text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; }
.title { font-weight: 600; font-size: 15px; }
.small { font-size: 12px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
polyline { fill: none; stroke-width: 2.5; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 1 6; }
"""

# implementation: (label, colour, dashed line)
_LINES = {
    "Rust algorithm": ("the Rust provider's algorithm", "rust", False),
    "plain ORM": ("plain SQLAlchemy ORM", "orm", False),
    "wfe_postgres": ("wfe_postgres", "ours", False),
    "baseline": ("baseline: hand-written psycopg", "ink", True),
    "baseline, known changes": ("the same with known changes", "other", True),
}
_BARS = ("wfe_postgres", "wfe_postgres, reloading each step", "LangGraph", "DBOS")


@dataclass(frozen=True)
class Box:
    """An area of the chart, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis that maps values to pixels."""

    minimum: float
    maximum: float
    begin: float
    end: float

    def position(self, value: float) -> float:
        """The pixel of a value."""
        part = math.log(value / self.minimum) / math.log(self.maximum / self.minimum)
        return self.begin + part * (self.end - self.begin)


def draw(report: Mapping[str, Any]) -> str:
    """The SVG of a report; values that were not measured are omitted."""
    medians = {
        race["title"]: {implementation: it["median"] for implementation, it in race["implementations"].items()}
        for race in report["races"]
    }
    works = (row["work"] for row in report["rows"] if row["unit"] == "/s")
    steps = next((work for work in works if work.startswith("workflow of ")), "workflow of 20 durable steps")
    parts = [
        *_saves(Box(64, 64, 360, 236), medians),
        *_steps(Box(500, 50, 396, 110), "Durable steps per second", medians.get(steps, {}), steps),
        *_steps(Box(500, 216, 396, 110), "with 1 ms each way", medians.get(f"{steps}, 1 ms each way", {}), steps),
        _text(16, HEIGHT - 14, f"{report['machine']}; a commit takes {report['commit']:.1f} ms", "small"),
        _text(WIDTH - 16, HEIGHT - 14, str(report["date"]), "small end"),
    ]
    body = "\n".join(parts)
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    page = f'<rect class="f-page s-grid" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>'
    style = f"<style>{_SHAPES}{_rules(0)}@media (prefers-color-scheme: dark) {{\n{_rules(1)}}}\n</style>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n{style}\n{page}\n{body}\n</svg>\n'


def _rules(scheme: int) -> str:
    """A fill class and a stroke class for each colour. (Many SVG renderers do not support CSS variables.)"""
    return "".join(
        f".f-{name} {{ fill: {colours[scheme]}; }}\n.s-{name} {{ stroke: {colours[scheme]}; }}\n"
        for name, colours in _COLOURS.items()
    )


def _saves(box: Box, medians: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    races = {size: medians[f"save, {size} pointers"] for size in SIZES if f"save, {size} pointers" in medians}
    if len(races) < 2:
        return
    times = [race[implementation] for race in races.values() for implementation in _LINES if implementation in race]
    across = Axis(min(races), max(races), box.x, box.x + box.width)
    up = Axis(
        10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times))), box.y + box.height, box.y
    )
    yield _text(16, 36, "One save after one step, milliseconds", "title")
    for exponent in range(round(math.log10(up.minimum)), round(math.log10(up.maximum)) + 1):
        y = up.position(10**exponent)
        yield f'<line class="s-grid" x1="{box.x}" y1="{y:.1f}" x2="{box.x + box.width}" y2="{y:.1f}"/>'
        yield _text(box.x - 8, y + 4, f"{10**exponent:g}", "small end")
    for size in races:
        yield _text(across.position(size), box.y + box.height + 18, f"{size:,}", "small middle")
    yield _text(box.x + box.width / 2, box.y + box.height + 36, "pointers in the workflow", "small middle")
    for implementation, (_, colour, dashed) in _LINES.items():
        points = [
            (across.position(size), up.position(race[implementation]))
            for size, race in races.items()
            if implementation in race
        ]
        yield _polyline(points, colour, dashed=dashed)
    yield from _legend(Box(box.x + 8, box.y - 4, 0, 0))


def _legend(box: Box) -> Iterator[str]:
    for index, (name, colour, dashed) in enumerate(_LINES.values()):
        y = box.y + 13 + 17 * index
        yield _polyline([(box.x, y), (box.x + 24, y)], colour, dashed=dashed)
        yield _text(box.x + 32, y + 4, name)


def _steps(box: Box, title: str, times: Mapping[str, float], work: str) -> Iterator[str]:
    count = int(work.split(" of ")[1].split()[0])
    speeds = {
        implementation: 1000 * count / times[implementation] for implementation in _BARS if implementation in times
    }
    if not speeds:
        return
    yield _text(box.x, box.y - 14, title, "title")
    room = 70
    for index, (implementation, speed) in enumerate(speeds.items()):
        y = box.y + index * 30
        length = (box.width - 170 - room) * speed / max(speeds.values())
        colour = "ours" if implementation.startswith("wfe_postgres") else "other"
        first, _, second = implementation.partition(", ")
        yield _text(box.x, y + 15, f"... {second}" if second else first)
        yield f'<rect x="{box.x + 170}" y="{y}" width="{length:.1f}" height="20" rx="2" class="f-{colour}"/>'
        yield _text(box.x + 170 + length + 8, y + 15, f"{speed:,.0f}")


def _polyline(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="s-{colour}{" dashed" if dashed else ""}" points="{path}"/>'


def _text(x: float, y: float, content: str, kind: str = "") -> str:
    colour = "quiet" if "small" in kind else "ink"
    return f'<text class="{f"f-{colour} {kind}".strip()}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'
