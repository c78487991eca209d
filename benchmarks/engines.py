"""Engines that run durable workflows, in this process or in several."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue

from benchmarks.harness import Call

Engine = Callable[[str, int, int, Callable[[], object]], AbstractContextManager[Callable[[int], object]]]
"""Takes a database URL, a number of steps, a number of threads, and what is called at the end of each workflow.

It yields a call that starts so many workflows with that many durable steps.
"""

_TIMEOUT = 120.0  # seconds


@contextmanager
def in_one_process(engine: Engine, url: str, steps: int, threads: int, workflows: int) -> Iterator[Call]:
    """A call that runs so many workflows in this process."""
    ended = threading.Semaphore(0)
    with engine(url, steps, threads, ended.release) as start:

        def call() -> None:
            start(workflows)
            for _ in range(workflows):
                if not ended.acquire(timeout=_TIMEOUT):
                    raise TimeoutError("a workflow has not ended")

        yield call


@contextmanager
def in_processes(engine: Engine, url: str, steps: int, processes: int, workflows: int) -> Iterator[Call]:
    """A call that runs so many workflows in each of several processes, which have one thread each."""
    spawn = multiprocessing.get_context("spawn")
    ended: Queue[None] = spawn.Queue()
    with ExitStack() as stack:
        pipes = [stack.enter_context(_process(spawn, engine, url, steps, ended)) for _ in range(processes)]
        for pipe in pipes:
            pipe.recv()

        def call() -> None:
            for pipe in pipes:
                pipe.send(workflows)
            for _ in range(processes * workflows):
                ended.get(timeout=_TIMEOUT)

        yield call


@contextmanager
def _process(
    spawn: SpawnContext, engine: Engine, url: str, steps: int, ended: "Queue[None]"
) -> Iterator["Connection[int, None]"]:
    """A process that ends when the connection is closed."""
    here, there = spawn.Pipe()
    process = spawn.Process(target=_work, args=(engine, url, steps, there, ended), daemon=True)
    process.start()
    there.close()
    try:
        with here:
            yield here
    finally:
        process.join()


def _work(engine: Engine, url: str, steps: int, pipe: "Connection[None, int]", ended: "Queue[None]") -> None:
    with engine(url, steps, 1, partial(ended.put, None)) as start:
        pipe.send(None)
        with suppress(EOFError):
            while True:
                start(pipe.recv())
