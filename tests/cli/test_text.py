"""The formatting of durations and due times."""

from datetime import UTC, datetime, timedelta

import pytest

from wfe_postgres import WorkflowStatus
from wfe_postgres.cli.text import next_run, span

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(), "0 ms"),
        (timedelta(milliseconds=120), "120 ms"),
        (timedelta(seconds=2.5), "2.5 s"),
        (timedelta(seconds=59.4), "59 s"),
        (timedelta(seconds=59.6), "1 min"),
        (timedelta(minutes=3, seconds=12), "3 min 12 s"),
        (timedelta(hours=5, seconds=27), "5 h"),
        (timedelta(days=1, hours=2, minutes=3), "1 d 2 h"),
        (timedelta(days=20000), "20,000 d"),
        (-timedelta(minutes=3), "3 min"),
    ],
)
def test_duration_is_formatted(length: timedelta, words: str) -> None:
    assert span(length) == words


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "waits"),
        (0, "due"),
        (int(NOW.timestamp() * 1000), "due 0 ms"),
        (int(NOW.timestamp() * 1000) - 90_000, "due 1 min 30 s"),
        (int(NOW.timestamp() * 1000) + 90_000, "in 1 min 30 s"),
        (2**63 - 1, "never"),
        (-(2**63), "due"),
    ],
)
def test_next_run_is_formatted(milliseconds: int | None, words: str) -> None:
    assert next_run(WorkflowStatus.RUNNABLE, milliseconds, NOW) == words
    assert next_run(WorkflowStatus.SUSPENDED, milliseconds, NOW) == ""
