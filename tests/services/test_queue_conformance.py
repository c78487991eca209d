"""The conformance suite for queues on PostgreSQL: directly, on an application's engine, and elsewhere."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Engine

from tests.conformance.test_postgres import HOSTILE_DEFAULTS
from tests.services.kit import shared_database
from tests.services.kit.shared_database import engine, pooled_url, url
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services import PostgresQueueProvider
from wfe_postgres.testing.conformance import QueueConformance

__all__ = ["engine", "pooled_url", "url"]

Make = Callable[[], PostgresQueueProvider]

emptied = partial(shared_database.emptied, table="work_queue")


class TestWithUrl(QueueConformance):
    """With an engine of its own for each provider."""

    @pytest.fixture
    def make_queue(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresQueueProvider, url)) as make:
            yield make


class TestWithoutNotify(QueueConformance):
    """Polling."""

    @pytest.fixture
    def make_queue(self, url: str) -> Iterator[Make]:
        with emptied(partial(PostgresQueueProvider, url, notify=False, poll_interval=0.05)) as make:
            yield make


class TestInAnotherSchema(QueueConformance):
    """On an application's engine, beside a store in the default schema, whose queue is another one."""

    @pytest.fixture
    def make_queue(self, engine: Engine) -> Iterator[Make]:
        make_one = partial(PostgresQueueProvider.from_engine, engine, schema="s" * 60)
        make_one().ensure_store_exists()
        beside = PostgresQueueProvider.from_engine(engine)
        beside.queue_work("of another queue", QueueType.WORKFLOW)
        with emptied(make_one) as make:
            yield make
        assert beside.dequeue_work(QueueType.WORKFLOW) == "of another queue"


class TestUnderHostileDefaults(TestWithUrl):
    """In a database with unusual defaults for time zone, date style, isolation level and others."""

    defaults = HOSTILE_DEFAULTS


class TestThroughPgBouncer(QueueConformance):
    """In transaction mode; nothing is left in the server's sessions."""

    @pytest.fixture
    def make_queue(self, pooled_url: str) -> Iterator[Make]:
        options = {"prepare_threshold": None}
        with emptied(partial(PostgresQueueProvider, pooled_url, connect_args=options, poll_interval=0.1)) as make:
            yield make
