"""Processes that queue and take ids."""

import os
import signal
import time

import psycopg

from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider

WORKFLOW = QueueType.WORKFLOW
IDLE = 3.0
"""Seconds without an id, after which a consumer is done."""
TAKEN = "CREATE TABLE IF NOT EXISTS public.taken (id text NOT NULL, pid int NOT NULL DEFAULT pg_backend_pid())"


def produce(url: str, name: str, count: int) -> list[str]:
    """Queue so many ids, every fourth in a transaction of the application's; returns them."""
    ids = [f"{name}-{number}" for number in range(count)]
    with PostgresQueueProvider(url, pool_size=1) as queue, psycopg.connect(url) as connection:
        for number, id in enumerate(ids):
            if number % 4:
                queue.queue_work(id, WORKFLOW)
            else:
                queue.using(connection).queue_work(id, WORKFLOW)
                connection.commit()
    return ids


def consume(url: str) -> list[str]:
    """Take ids until there are none for a while; returns them."""
    taken: list[str] = []
    with PostgresQueueProvider(url, pool_size=2) as queue:
        while (id := queue.dequeue_work(WORKFLOW, timeout=IDLE)) is not None:
            taken.append(id)
    return taken


def move(url: str, role: str, name: str, count: int) -> tuple[str, list[str]]:
    """Be a producer or a consumer."""
    return role, produce(url, name, count) if role == "producer" else consume(url)


def consume_and_note(url: str, dies_after: int | None) -> None:
    """Take ids and write each down, until there are none for a while, or be killed in the middle."""
    noted = 0
    with PostgresQueueProvider(url, pool_size=2) as queue, psycopg.connect(url, autocommit=True) as connection:
        while (id := queue.dequeue_work(WORKFLOW, timeout=IDLE)) is not None:
            if noted == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            connection.execute("INSERT INTO public.taken (id) VALUES (%s)", [id])
            noted += 1
