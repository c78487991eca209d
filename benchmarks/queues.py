"""What is measured of a queue, ours or another library's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider

Taken = Callable[[str], object]


@dataclass(frozen=True)
class Queue:
    """A queue of ids."""

    put: Callable[[str], object]
    """Queue the id, committed."""
    worker: Callable[[Taken], AbstractContextManager[None]]
    """A worker that takes one id at a time, and calls this with it."""


@contextmanager
def our_queue(url: str) -> Iterator[Queue]:
    """`PostgresQueueProvider`, one for those who queue and one for the worker."""
    with PostgresQueueProvider(url) as queue, PostgresQueueProvider(url) as workers:
        queue.ensure_store_exists()

        @contextmanager
        def worker(taken: Taken) -> Iterator[None]:
            stopped = threading.Event()

            def work() -> None:
                while not stopped.is_set():
                    if (id := workers.dequeue_work(QueueType.WORKFLOW, timeout=0.2)) is not None:
                        taken(id)

            thread = threading.Thread(target=work)
            thread.start()
            yield
            stopped.set()
            thread.join()

        yield Queue(lambda it: queue.queue_work(it, QueueType.WORKFLOW), worker)
