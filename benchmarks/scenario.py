"""The context of a section: server, connection routes, plan and results."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from benchmarks.harness import Prepare, Progress, Race, Ratio, race
from benchmarks.implementations import orm, rust
from benchmarks.implementations.baseline import Baseline, KnownChangesBaseline, PooledBaseline
from benchmarks.implementations.orm import Orm
from benchmarks.implementations.ours import Ours
from benchmarks.implementations.rust import IndexedRust, Rust
from benchmarks.implementations.store import Store
from benchmarks.plan import Plan
from benchmarks.proxy import DelayProxy
from benchmarks.server import Server

_COUNT_TIMEOUT = 0.3  # seconds

OURS, BASELINE = "wfe_postgres", "baseline"
KNOWN_CHANGES, POOLED = "baseline, known changes", "baseline with SQLAlchemy"
RUST, INDEXED_RUST = "Rust algorithm", "Rust algorithm with an index"
ORM = "plain ORM"


@dataclass(frozen=True)
class Target:
    """A limit for a value."""

    limit: float
    at_least: bool

    def is_met_by(self, value: float) -> bool:
        """Whether the value meets the target."""
        return value >= self.limit if self.at_least else value <= self.limit


def at_most(limit: float | None) -> Target | None:
    """An upper limit; `None` means no target."""
    return None if limit is None else Target(limit, at_least=False)


def at_least(limit: float | None) -> Target | None:
    """A lower limit; `None` means no target."""
    return None if limit is None else Target(limit, at_least=True)


@dataclass(frozen=True)
class Row:
    """One measured value."""

    section: str
    work: str
    measured: str
    """The meaning of the value: "of the baseline", "times as fast as ..."."""
    value: float
    unit: str = ""
    target: Target | None = None
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; `None` without a target."""
        return None if self.target is None else self.target.is_met_by(self.value)


@dataclass(frozen=True)
class Route:
    """A route to the server: direct or through a proxy."""

    label: str = ""
    proxy: DelayProxy | None = None

    def through(self, url: str) -> str:
        """The URL of a database on this route."""
        return self.proxy.through(url) if self.proxy else url


@dataclass
class Scenario:
    """The context in which sections run."""

    plan: Plan
    server: Server
    progress: Progress
    far: Route
    _stack: ExitStack
    near: Route = Route()
    section: str = ""
    rows: list[Row] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)
    _databases: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The database of most races, with the tables of all implementations."""
        return self.database("main", _create_tables)

    def database(self, name: str, prepare: Callable[[str, Plan], None]) -> str:
        """The URL of a database, which is created and prepared at the first call."""
        if name not in self._databases:
            self._databases[name] = self.server.database(f"wfe_bench_{name}")
            self._stack.callback(self.server.drop, f"wfe_bench_{name}")
            prepare(self._databases[name], self.plan)
        return self._databases[name]

    def race(
        self,
        title: str,
        implementations: Mapping[str, Prepare],
        *,
        route: Route | None = None,
        seconds: float | None = None,
        turn: int = 1,
    ) -> Race:
        """Run a race and store its timings; on a route with a proxy also count the round trips."""
        label = f"{title}, {route.label}" if route and route.label else title
        duration = seconds or self.plan.race
        done = race(label, implementations, duration, self.plan.min_calls, self.progress, turn=turn)
        if route and route.proxy:
            for implementation, prepare in implementations.items():
                done.round_trips[implementation] = _count(route.proxy, prepare)
        return self.add_race(done)

    def add_race(self, done: Race) -> Race:
        """Store the timings of a race that was run by the caller."""
        self.races.append(done)
        return done

    def ratio(self, work: str, measured: str, ratio: Ratio, target: Target | None = None) -> None:
        """Store a ratio with its interval."""
        self.rows.append(Row(self.section, work, measured, ratio.value, "x", target, ratio.low, ratio.high))

    def value(self, work: str, measured: str, value: float, unit: str = "", target: Target | None = None) -> None:
        """Store a value."""
        self.rows.append(Row(self.section, work, measured, value, unit, target))


@contextmanager
def open_scenario(plan: Plan, server: Server, progress: Progress) -> Iterator[Scenario]:
    """A scenario whose databases are dropped and whose proxy is stopped at the end of the context."""
    with ExitStack() as stack:
        proxy = stack.enter_context(DelayProxy(server.url))
        yield Scenario(plan, server, progress, Route("1 ms each way", proxy), stack)


@contextmanager
def stores(url: str, *implementations: str, empty: bool = True) -> Iterator[dict[str, Store]]:
    """Open these implementations and close them afterwards; `empty` truncates their tables first."""
    make: dict[str, Callable[[str], Store]] = {
        OURS: Ours,
        BASELINE: Baseline,
        KNOWN_CHANGES: KnownChangesBaseline,
        POOLED: PooledBaseline,
        RUST: Rust,
        INDEXED_RUST: IndexedRust,
        ORM: Orm,
    }
    with ExitStack() as stack:
        opened = {
            implementation: stack.enter_context(closing(make[implementation](url)))
            for implementation in implementations
        }
        if empty:
            for store in {store.schema: store for store in opened.values()}.values():
                store.clear()
        yield opened


@contextmanager
def stores_on(route: Route, url: str, *implementations: str) -> Iterator[dict[str, tuple[Store, Store]]]:
    """Like `stores`, with two connections each: on the measured route, and a direct one for everything not timed."""
    with stores(url, *implementations) as near, stores(route.through(url), *implementations, empty=False) as measured:
        yield {implementation: (measured[implementation], near[implementation]) for implementation in implementations}


def _create_tables(url: str, _: Plan) -> None:
    with closing(Ours(url)) as ours:
        ours.provider.ensure_store_exists()
    orm.create_tables(url)
    rust.create_tables(url)


def _count(proxy: DelayProxy, prepare: Prepare) -> int:
    """The minimum of up to three calls, because preparing a statement takes another round trip."""
    found: list[int] = []
    end = time.monotonic() + _COUNT_TIMEOUT
    while not found or (len(found) < 3 and time.monotonic() < end):
        call = prepare()
        before = proxy.round_trips
        call()
        found.append(proxy.round_trips - before)
    return min(found)
