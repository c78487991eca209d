"""The queue beside those of other libraries, and what NOTIFY costs those who commit."""

import statistics
import threading
import time
from collections import defaultdict
from contextlib import ExitStack

from sqlalchemy.orm import Session

from benchmarks.peers import installed_queues
from benchmarks.queues import Queue, our_queue
from benchmarks.scenario import OURS, Scenario, at_most
from benchmarks.writers import commits_per_second, require
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext, WorkflowBuilder, WorkflowHost
from wfe_postgres.services import PostgresQueueProvider

TIMEOUT = 60.0
QUEUED, TAKEN, WOKEN = "queue an id", "take an id, one worker", "from the call that queues to the waiting worker"
INSERT = "INSERT INTO wfc.work_queue (queue, id) VALUES ('Workflow', gen_random_uuid()::text)"
STATEMENTS = {
    "without NOTIFY": INSERT,
    "with NOTIFY": f"WITH queued AS ({INSERT} RETURNING 1) SELECT pg_notify('wfc_queue', 'Workflow') FROM queued",
}


def run(scenario: Scenario) -> None:
    """Measure the libraries in turns, each in a database of its own; then the writers, in turns, too."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    scenario.progress.race("queues")
    with ExitStack() as stack:
        queues: dict[str, Queue] = {}
        for number, (name, open_queue) in enumerate({OURS: our_queue, **installed_queues()}.items()):
            stack.callback(scenario.server.drop, f"wfe_bench_queue_{number}")
            queues[name] = stack.enter_context(open_queue(scenario.server.database(f"wfe_bench_queue_{number}")))
        for turn in range(scenario.plan.slices):
            for name, queue in queues.items():
                for work, value in measure(queue, scenario.plan.waiting).items():
                    found[work, name].append(value)
            scenario.progress.advance((turn + 1) / scenario.plan.slices)
    for (work, name), values in sorted(found.items()):
        target = at_most(10 if (work, name) == (WOKEN, OURS) else None)
        scenario.value(work, name, statistics.median(values), "ms" if work == WOKEN else "/s", target)
    wake_host(scenario)
    for writers in scenario.plan.writers:
        write(scenario, writers)


def measure(queue: Queue, count: int) -> dict[str, float]:
    """Queue many ids, let a worker take them, and let it then wait for one after the other."""
    arrived: list[float] = []
    one, all_there = threading.Event(), threading.Event()

    def taken(_: str) -> None:
        arrived.append(time.perf_counter())
        one.set()
        if len(arrived) == count:
            all_there.set()

    begun = time.perf_counter()
    for number in range(count):
        queue.put(f"id {number}")
    put = time.perf_counter() - begun
    with queue.worker(taken):
        require(all_there.wait(TIMEOUT), "the worker is not done")
        took = arrived[-1] - arrived[0]
        time.sleep(0.5)
        waits = [wait_for(queue, one, arrived, number) for number in range(count // 10)]
    return {QUEUED: count / put, TAKEN: (count - 1) / took, WOKEN: 1000 * statistics.median(waits)}


def wait_for(queue: Queue, one: threading.Event, arrived: list[float], number: int) -> float:
    """The time from the call that queues to the worker, which waits."""
    one.clear()
    time.sleep(0.02)
    begun = time.perf_counter()
    queue.put(f"late {number}")
    require(one.wait(TIMEOUT), "the worker was not woken")
    return arrived[-1] - begun


def wake_host(scenario: Scenario) -> None:
    """The time from the commit of a transaction that starts a workflow to its step, in a host at rest."""
    scenario.progress.race("host")
    url = scenario.database("notify", lambda it, _: create_store(it))
    begun: list[float] = []
    one = threading.Event()

    def step(_: StepContext) -> None:
        begun.append(time.perf_counter())
        one.set()

    definition = WorkflowBuilder("woken").start_with(step).build()
    with (
        PostgresPersistenceProvider(url) as provider,
        PostgresPersistenceProvider(url) as provider_of_client,
        PostgresQueueProvider(url) as queue,
        PostgresQueueProvider(url) as queue_of_client,
        WorkflowHost(provider, [definition], queue=queue, poll_interval=600),
    ):
        client = WorkflowHost(provider_of_client, [definition], queue=queue_of_client)
        waits = []
        time.sleep(1)
        for _ in range(max(1, scenario.plan.waiting // 10)):
            one.clear()
            time.sleep(0.03)
            with Session(provider_of_client.engine) as session:
                client.using(session).start_workflow("woken")
                session.commit()
            committed = time.perf_counter()
            require(one.wait(TIMEOUT), "the host was not woken")
            waits.append(max(0.0, begun[-1] - committed))
    scenario.value("from the commit to the step", "a host at rest", 1000 * statistics.median(waits), "ms", at_most(20))


def write(scenario: Scenario, writers: int) -> None:
    """Commit, with and without NOTIFY."""
    scenario.progress.race(f"commits of {writers} writers")
    url = scenario.database("notify", lambda it, _: create_store(it))
    rates: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for turn in range(scenario.plan.slices):
        for name, statement in STATEMENTS.items():
            rates[name].append(commits_per_second(url, statement, writers, scenario.plan.slice / 2))
        scenario.progress.advance((turn + 1) / scenario.plan.slices)
    for name, values in rates.items():
        scenario.value(f"commits of {writers} writers", name, statistics.median(values), "/s")


def create_store(url: str) -> None:
    """Create the tables."""
    with PostgresPersistenceProvider(url) as provider:
        provider.ensure_store_exists()
