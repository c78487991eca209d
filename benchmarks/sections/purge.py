"""A purge of finished workflows in the filled store, concurrent with saves of the same process."""

import statistics
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
from sqlalchemy import create_engine, event, make_url

from benchmarks.crowds import fill
from benchmarks.harness import Prepare, Race
from benchmarks.implementations.ours import Ours
from benchmarks.scenario import Scenario, at_most
from benchmarks.sections.saves import saving, stepped
from wfe_postgres import PostgresPersistenceProvider, WorkflowStatus

POINTERS = 10
ALONE, DURING = "saves alone", "saves during the purge"

_SCANS = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE schemaname = 'wfc'"
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def run(scenario: Scenario) -> None:
    """Time saves before, during and after the purge."""
    scenario.progress.race(f"purge of {scenario.plan.purged:,} workflows")
    url = scenario.database("crowded", fill)
    alone = scenario.plan.race / 3
    scans = _sequential_scans(url)
    with closing(Ours(url)) as live:
        prepare = saving(live, stepped(live, live, POINTERS))
        _saves(prepare, alone)
        before = _saves(prepare, alone)
        purge = _Purge(url, scenario.plan.purged)
        during = purge.while_running(prepare)
        after = _saves(prepare, alone)
    race = scenario.add_race(Race(f"purge of {purge.purged:,} workflows", {ALONE: before + after, DURING: during}))
    assert purge.purged >= scenario.plan.purged, "the purge did not remove all rows"
    scenario.value(race.title, "longest batch", max(purge.batches) * 1000, "ms", at_most(100))
    scenario.value(race.title, "median batch", statistics.median(purge.batches) * 1000, "ms")
    more = _sequential_scans(url) - scans
    scenario.value(race.title, f"sequential scans{_named(more)}", more.total(), target=at_most(0))
    scenario.ratio(race.title, "concurrent saves, of saves alone", race.ratio(DURING, ALONE), at_most(1.5))


class _Purge:
    """A purge in a separate thread; `batches` contains the seconds from each BEGIN to the return of the connection."""

    def __init__(self, url: str, count: int) -> None:
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        # The n-th workflow completed at second n of the month; six of ten workflows are complete.
        self._older_than = datetime(2025, 2, 1, tzinfo=UTC) + timedelta(seconds=-(-count * 10 // 6) + 5)
        self._failure: BaseException | None = None
        self.purged = 0
        self.batches: list[float] = []

    def while_running(self, prepare: Prepare) -> list[float]:
        """Time saves until the purge has ended."""
        thread = threading.Thread(target=self._run)
        thread.start()
        times: list[float] = []
        while thread.is_alive():
            times += _saves(prepare, 0)
        thread.join()
        if self._failure:
            raise self._failure
        return times

    def _run(self) -> None:
        begun: list[float] = []
        event.listen(self._engine, "begin", lambda _: begun.append(time.perf_counter()))
        event.listen(self._engine, "checkin", lambda *_: self.batches.append(time.perf_counter() - begun[-1]))
        try:
            provider = PostgresPersistenceProvider.from_engine(self._engine)
            self.purged = provider.purge_workflows(WorkflowStatus.COMPLETE, self._older_than)
        except BaseException as failure:
            self._failure = failure
        self._engine.dispose()


def _named(tables: Counter[str]) -> str:
    return f" ({', '.join(tables)})" if tables else ""


def _saves(prepare: Prepare, seconds: float) -> list[float]:
    """The durations of repeated saves within `seconds`, at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        call = prepare()
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return times


def _sequential_scans(url: str) -> Counter[str]:
    """Sequential scans by table. Backends report their statistics at exit, so other backends are waited for."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(_OTHERS).fetchone() != (0,):
            time.sleep(0.01)
        return Counter(dict(connection.execute(_SCANS).fetchall()))
