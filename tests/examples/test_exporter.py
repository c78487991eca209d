"""The exporter answers scrapes with what stands in the store, and 503 while the store cannot be asked."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wfe_postgres import (
    Event,
    EventSubscription,
    ExecutionError,
    PostgresPersistenceProvider,
    ScheduledCommand,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError

EXPORTER = Path(__file__).parents[2] / "examples" / "exporter.py"

# The text format, version 0.0.4: a name, perhaps labels, a value.
SAMPLE = re.compile(r'(?P<name>[a-z_]+(\{[a-z_]+="[A-Za-z]+"\})?) (?P<value>-?\d+(\.\d+)?)')


@contextmanager
def exporter(url: str) -> Iterator[str]:
    """The address of the example, run as its first lines say, on a free port."""
    environment = os.environ | {"WFE_DATABASE_URL": url}
    command = [sys.executable, str(EXPORTER), "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def scrape(address: str) -> dict[str, float]:
    """The samples by their names and labels; each line has to be one, and none comes twice."""
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    assert text.endswith("\n")
    samples = [SAMPLE.fullmatch(line) for line in text.splitlines()]
    found = {sample["name"]: float(sample["value"]) for sample in samples if sample}
    assert len(found) == len(text.splitlines())
    return found


def fill(provider: PostgresPersistenceProvider, now: datetime) -> None:
    """Put some of everything into the store; what waits, does so for an hour."""
    hour_ago = now - timedelta(hours=1)
    milliseconds = int(hour_ago.timestamp() * 1000)
    due = WorkflowInstance("order", 1, next_execution=milliseconds)
    provider.create_new_workflow(due)
    provider.create_new_workflow(WorkflowInstance("order", 1, status=WorkflowStatus.SUSPENDED))
    provider.create_event(Event("paid", "4711", event_time=hour_ago))
    provider.schedule_command(ScheduledCommand.process_workflow(due.id, milliseconds))
    provider.persist_errors([ExecutionError(due.id, "p", "ValueError") for _ in range(3)])
    held, lapsed = (EventSubscription(due.id, 0, "p", "paid", key) for key in ("1", "2"))
    for subscription, expiry in ((held, now + timedelta(hours=1)), (lapsed, hour_ago)):
        provider.create_event_subscription(subscription)
        assert provider.set_subscription_token(subscription.id, "token", "worker", expiry)


def test_a_scrape_tells_how_the_store_stands(provider: PostgresPersistenceProvider, database_url: str) -> None:
    now = datetime.now(UTC)
    fill(provider, now)
    with exporter(database_url) as address:
        found = scrape(address)
        ages = {name: found.pop(name) for name in list(found) if name.endswith("_age_seconds")}
        assert abs(found.pop("wfe_clock_offset_seconds")) < 5
        assert found == {
            'wfe_workflows{status="Runnable"}': 1,
            'wfe_workflows{status="Suspended"}': 1,
            'wfe_workflows{status="Complete"}': 0,
            'wfe_workflows{status="Terminated"}': 0,
            "wfe_runnable_due": 1,
            "wfe_unprocessed_events": 1,
            "wfe_due_commands": 1,
            "wfe_execution_errors": 3,
            'wfe_subscriptions{state="open"}': 1,
            'wfe_subscriptions{state="held"}': 1,
            'wfe_subscriptions{state="expired"}': 1,
        }
        assert sorted(ages) == [
            "wfe_oldest_due_age_seconds",
            "wfe_oldest_due_command_age_seconds",
            "wfe_oldest_unprocessed_event_age_seconds",
        ]
        assert all(3590 < age < 3600 + 120 for age in ages.values())
        provider.create_new_workflow(WorkflowInstance("order", 1))
        found = scrape(address)
        assert found['wfe_workflows{status="Runnable"}'] == 2
        assert found["wfe_oldest_due_age_seconds"] == 0  # the new one is due at once, not since 1970


def test_what_is_not_waiting_has_no_age(empty_database_url: str) -> None:
    with exporter(empty_database_url) as address:
        found = scrape(address)
    assert all(age == 0 for name, age in found.items() if name.endswith("_age_seconds"))


def test_while_the_server_is_down_it_answers_503_and_then_comes_back() -> None:
    try:
        with EmbeddedPostgres() as server, exporter(server.url) as address:
            assert scrape(address)["wfe_execution_errors"] == 0
            server.stop("immediate")
            began = time.monotonic()
            with pytest.raises(urllib.error.HTTPError) as refused:
                scrape(address)
            with refused.value:
                assert refused.value.code == 503
                assert "no server answers" in refused.value.read().decode()
            assert time.monotonic() - began < 30
            server.start()
            assert scrape(address)["wfe_execution_errors"] == 0
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
