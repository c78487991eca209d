"""The output of every command on terminals of three widths and in a pipe: width, truncation and escaping."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli.running import Command, succeeded
from tests.cli.scenarios import HOSTILE, SHOWN_HOSTILE, everything, order
from wfe_postgres import PostgresPersistenceProvider

SCREENS = (
    ("status",),
    ("list",),
    ("show", "order-4711"),
    ("show", "mailing"),
    ("show", "mailing", "--all"),
    ("show", HOSTILE),
    ("errors",),
    ("errors", "order-4711"),
    ("errors", "--group"),
    ("events",),
    ("events", "--name", HOSTILE, "--key", HOSTILE),
    ("purge", "--older-than", "1d", "--dry-run"),
    ("purge-orphans", "--older-than", "1d", "--dry-run"),
    ("suspend", HOSTILE),
)
SENTENCES = ("The workflow ", "More with --cursor ")
"""Beginnings of sentences, which may be longer than a line."""


def test_output_fits_terminal_width(cli: Command, provider: PostgresPersistenceProvider, columns: int) -> None:
    everything(provider)
    for screen in *SCREENS, ("check",), ("upgrade",), ("publish", "paid", "4711", "--id", "an-id " * 20):
        lines = succeeded(cli(*screen)).lines
        assert all(line.isprintable() for line in lines), screen
        assert all(cell_len(line) <= columns for line in lines if not line.startswith(SENTENCES)), screen


def test_output_to_pipe_is_plain_text(cli: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in SCREENS:
        for line in succeeded(cli(*screen)).output.splitlines():
            assert line.isprintable(), screen
            assert line == line.rstrip(), screen


def test_json_option_prints_only_json(cli: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in SCREENS:
        result = succeeded(cli(*screen, "--json"))
        json.loads(result.output)
        assert result.output.isascii(), screen


@pytest.mark.parametrize("name", [("status",), ("list",), ("errors",), ("events",)])
def test_empty_store_prints_output(cli: Command, name: tuple[str, ...], columns: int) -> None:
    assert succeeded(cli(*name)).lines
    json.loads(succeeded(cli(*name, "--json")).output)


def test_control_characters_are_escaped(cli: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in ("list",), ("show", HOSTILE), ("errors",), ("errors", "--group"), ("events",), ("suspend", HOSTILE):
        assert SHOWN_HOSTILE.replace(r"\n", " ") in succeeded(cli(*screen)).output.replace(r"\n", " ")
    assert SHOWN_HOSTILE in cli("show", f"{HOSTILE}!").reported_errors


def test_output_to_pipe_is_not_truncated(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    assert any(created.id in line and "no such shelf " * 19 in line for line in succeeded(cli("errors")).lines)


def test_output_to_terminal_does_not_truncate_ids(
    cli: Command, provider: PostgresPersistenceProvider, columns: int
) -> None:
    everything(provider)
    lines = "\n".join(succeeded(cli("list")).lines)
    for item in provider.find_workflows(definition_id="done").items:
        rest = " +done v1 +Complete" if columns > 60 else "\n  Complete  done v1"
        assert re.search(rf"^{item.id}{rest} +2026-01-31 12:00", lines, re.MULTILINE)


def start_process(url: str, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    """Start the command in a subprocess."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "wfe_postgres", *arguments],
        env={**os.environ, "WFE_DATABASE_URL": url, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        **options,
    )


def test_watch_runs_until_interrupted(database_url: str, tmp_path: Path) -> None:
    reported_errors = tmp_path / "reported_errors"
    with reported_errors.open("wb") as stderr:
        watch = start_process(
            database_url, "status", "--watch", "--every", "0.1", "--json", stdout=subprocess.PIPE, stderr=stderr
        )
    with watch:
        assert watch.stdout is not None
        samples = [json.loads(watch.stdout.readline()) for _ in range(3)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
    times = [sample["time"] for sample in samples]
    assert times == sorted(set(times))
    assert reported_errors.read_bytes() == b""


def test_watch_restores_the_terminal(database_url: str) -> None:
    controller, terminal = pty.openpty()
    with start_process(
        database_url, "status", "--watch", "--every", "0.1", stdin=terminal, stdout=terminal, stderr=terminal
    ) as watch:
        os.close(terminal)
        seen = read_until(controller, lambda so_far: so_far.count(b"Store in schema") >= 3)
        watch.send_signal(signal.SIGINT)
        seen += read_until(controller, lambda so_far: False)
        assert watch.wait(30) == 130
    os.close(controller)
    start, end = seen.index(b"\x1b[?1049h"), seen.index(b"\x1b[?1049l")
    assert start < seen.index(b"Store in schema") < seen.rindex(b"Store in schema") < end
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor
    assert b"Traceback" not in seen


def read_until(terminal: int, enough: Callable[[bytes], bool]) -> bytes:
    """Read from the terminal until `enough` returns true, or to the end of file."""
    seen = b""
    while not enough(seen):
        try:
            part = os.read(terminal, 65536)
        except OSError:  # on Linux: the other end is closed
            break
        if not part:
            break
        seen += part
    return seen


def test_closed_pipe_is_not_an_error(provider: PostgresPersistenceProvider, database_url: str) -> None:
    everything(provider)
    reading, writing = os.pipe()
    os.close(reading)
    with start_process(database_url, "show", "mailing", "--all", stdout=writing, stderr=subprocess.PIPE) as show:
        os.close(writing)
        assert show.stderr is not None
        assert show.stderr.read() == b""


def test_ascii_output_encoding_is_not_an_error(
    provider: PostgresPersistenceProvider, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(provider)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with start_process(database_url, "show", "order-4711", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as show:
        output, reported_errors = show.communicate()
    assert (show.returncode, reported_errors) == (0, b"")
    assert b"do_label" in output
