"""Where sections run: the server and the lines to it, the plan, and the book in which results are kept."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from benchmarks.harness import Prepare, Progress, Race, Ratio, race
from benchmarks.implementations import orm, rust
from benchmarks.implementations.floor import Floor, PooledFloor, ToldFloor
from benchmarks.implementations.orm import Orm
from benchmarks.implementations.ours import Ours
from benchmarks.implementations.rust import Rust
from benchmarks.implementations.store import Store
from benchmarks.plan import Plan
from benchmarks.proxy import DelayProxy
from benchmarks.server import Server

_COUNTING = 0.3  # seconds

OURS, FLOOR, TOLD, POOLED = "wfe_postgres", "floor", "told floor", "pooled floor"
RUST, ORM = "Rust algorithm", "plain ORM"


@dataclass(frozen=True)
class Target:
    """What is asked of a value."""

    limit: float
    at_least: bool

    def is_met_by(self, value: float) -> bool:
        """Whether the value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


def at_most(limit: float | None) -> Target | None:
    """The value may not be above; `None`: nothing is asked."""
    return None if limit is None else Target(limit, at_least=False)


def at_least(limit: float | None) -> Target | None:
    """The value may not be below; `None`: nothing is asked."""
    return None if limit is None else Target(limit, at_least=True)


@dataclass(frozen=True)
class Row:
    """One measured value."""

    section: str
    work: str
    measured: str
    """What the value says: "of the floor", "times as fast as ..."."""
    value: float
    unit: str = ""
    target: Target | None = None
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; `None`: there is none."""
        return None if self.target is None else self.target.is_met_by(self.value)


@dataclass(frozen=True)
class Line:
    """A way to the server: the direct one, or one through a proxy."""

    label: str = ""
    proxy: DelayProxy | None = None

    def through(self, url: str) -> str:
        """The database's URL by this way."""
        return self.proxy.through(url) if self.proxy else url


@dataclass
class Stage:
    """Everything a section needs."""

    plan: Plan
    server: Server
    progress: Progress
    far: Line
    _stack: ExitStack
    near: Line = Line()
    section: str = ""
    rows: list[Row] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)
    _databases: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The database of most races, with the tables of every way."""
        return self.database("main", _lay_out)

    def database(self, name: str, furnish: Callable[[str, Plan], None]) -> str:
        """The URL of the database of this name, made and furnished when it is asked for first."""
        if name not in self._databases:
            self._databases[name] = self.server.database(f"wfe_bench_{name}")
            self._stack.callback(self.server.drop, f"wfe_bench_{name}")
            furnish(self._databases[name], self.plan)
        return self._databases[name]

    def race(
        self, title: str, ways: Mapping[str, Prepare], *, line: Line | None = None, seconds: float | None = None
    ) -> Race:
        """Run a race and keep its timings; on a line with a proxy also count each way's round trips."""
        label = f"{title}, {line.label}" if line and line.label else title
        done = race(label, ways, seconds or self.plan.race, self.plan.fewest, self.progress)
        if line and line.proxy:
            for way, prepare in ways.items():
                done.round_trips[way] = _count(line.proxy, prepare)
        return self.keep(done)

    def keep(self, done: Race) -> Race:
        """Keep the timings of a race that was run otherwise."""
        self.races.append(done)
        return done

    def ratio(self, work: str, measured: str, ratio: Ratio, target: Target | None = None) -> None:
        """Keep a ratio with its interval."""
        self.rows.append(Row(self.section, work, measured, ratio.value, "x", target, ratio.low, ratio.high))

    def value(self, work: str, measured: str, value: float, unit: str = "", target: Target | None = None) -> None:
        """Keep a value."""
        self.rows.append(Row(self.section, work, measured, value, unit, target))


@contextmanager
def open_stage(plan: Plan, server: Server, progress: Progress) -> Iterator[Stage]:
    """A stage whose databases are dropped, and whose proxy is ended, with the context."""
    with ExitStack() as stack:
        proxy = stack.enter_context(DelayProxy(server.url))
        yield Stage(plan, server, progress, Line("1 ms each way", proxy), stack)


@contextmanager
def stores(url: str, *ways: str, empty: bool = True) -> Iterator[dict[str, Store]]:
    """These ways of keeping workflows, closed afterwards; `empty`: there is nothing in their tables at first."""
    make: dict[str, Callable[[str], Store]] = {
        OURS: Ours,
        FLOOR: Floor,
        TOLD: ToldFloor,
        POOLED: PooledFloor,
        RUST: Rust,
        ORM: Orm,
    }
    with ExitStack() as stack:
        opened = {way: stack.enter_context(closing(make[way](url))) for way in ways}
        if empty:
            for store in {store.schema: store for store in opened.values()}.values():
                store.clear()
        yield opened


@contextmanager
def stores_on(line: Line, url: str, *ways: str) -> Iterator[dict[str, tuple[Store, Store]]]:
    """As `stores`, each way twice: on the line that is measured, and on the direct one for all that is not."""
    with stores(url, *ways) as near, stores(line.through(url), *ways, empty=False) as measured:
        yield {way: (measured[way], near[way]) for way in ways}


def _lay_out(url: str, _: Plan) -> None:
    with closing(Ours(url)) as ours:
        ours.provider.ensure_store_exists()
    orm.lay_out(url)
    rust.lay_out(url)


def _count(proxy: DelayProxy, prepare: Prepare) -> int:
    """The least of up to three, because the call that prepares the statement takes another round trip."""
    found: list[int] = []
    end = time.monotonic() + _COUNTING
    while not found or (len(found) < 3 and time.monotonic() < end):
        call = prepare()
        before = proxy.round_trips
        call()
        found.append(proxy.round_trips - before)
    return min(found)
