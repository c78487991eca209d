"""Every screen at two widths and in a pipe: what fits, what is cut, and what must never get out."""

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

from tests.cli.running import Command, done
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
    ("events",),
    ("events", "--name", HOSTILE, "--key", HOSTILE),
    ("purge", "--older-than", "1d", "--dry-run"),
    ("suspend", HOSTILE),
)
SENTENCES = ("The workflow ", "More with --cursor ")
"""Lines of prose, which the terminal breaks."""


def test_every_screen_fits_the_terminal(here: Command, provider: PostgresPersistenceProvider, columns: int) -> None:
    everything(provider)
    for screen in SCREENS:
        lines = done(here(*screen)).lines
        assert all(line.isprintable() for line in lines), screen
        assert all(cell_len(line) <= columns for line in lines if not line.startswith(SENTENCES)), screen


def test_a_pipe_gets_plain_text(here: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in SCREENS:
        for line in done(here(*screen)).output.splitlines():
            assert line.isprintable(), screen
            assert line == line.rstrip(), screen


def test_a_program_gets_json_and_nothing_else(here: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in SCREENS:
        result = done(here(*screen, "--json"))
        json.loads(result.output)
        assert result.output.isascii(), screen


@pytest.mark.parametrize("name", [("status",), ("list",), ("errors",), ("events",)])
def test_an_empty_store_has_its_screens_too(here: Command, name: tuple[str, ...], columns: int) -> None:
    assert done(here(*name)).lines
    json.loads(done(here(*name, "--json")).output)


def test_hostile_texts_are_shown_as_their_codes(here: Command, provider: PostgresPersistenceProvider) -> None:
    everything(provider)
    for screen in ("list",), ("show", HOSTILE), ("errors",), ("events",), ("suspend", HOSTILE):
        assert SHOWN_HOSTILE.replace(r"\n", " ") in done(here(*screen)).output.replace(r"\n", " ")
    assert SHOWN_HOSTILE in here("show", f"{HOSTILE}!").reported_errors


def test_a_pipe_gets_ids_and_messages_whole(here: Command, provider: PostgresPersistenceProvider) -> None:
    made = order(provider)
    assert any(made.id in line and "no such shelf " * 19 in line for line in done(here("errors")).lines)


def test_a_terminal_never_cuts_an_id(here: Command, provider: PostgresPersistenceProvider, columns: int) -> None:
    everything(provider)
    lines = "\n".join(done(here("list")).lines)
    for item in provider.find_workflows(definition_id="done").items:
        assert re.search(rf"^{item.id}  done v1 +Complete +2026-01-31 12:00", lines, re.MULTILINE)


def in_a_process(url: str, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    """The command in a process of its own."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "wfe_postgres", *arguments],
        env={**os.environ, "WFE_DATABASE_URL": url, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        **options,
    )


def test_a_watch_goes_on_until_it_is_interrupted(database_url: str, tmp_path: Path) -> None:
    reported_errors = tmp_path / "reported_errors"
    with reported_errors.open("wb") as stderr:
        watch = in_a_process(
            database_url, "status", "--watch", "--every", "0.1", "--json", stdout=subprocess.PIPE, stderr=stderr
        )
    with watch:
        assert watch.stdout is not None
        looks = [json.loads(watch.stdout.readline()) for _ in range(3)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
    times = [look["time"] for look in looks]
    assert times == sorted(set(times))
    assert reported_errors.read_bytes() == b""


def test_a_watch_on_a_terminal_gives_it_back_as_it_was(database_url: str) -> None:
    ours, theirs = pty.openpty()
    with in_a_process(
        database_url, "status", "--watch", "--every", "0.1", stdin=theirs, stdout=theirs, stderr=theirs
    ) as watch:
        os.close(theirs)
        seen = read_until(ours, lambda so_far: so_far.count(b"Store in schema") >= 3)
        watch.send_signal(signal.SIGINT)
        seen += read_until(ours, lambda so_far: False)
        assert watch.wait(30) == 130
    os.close(ours)
    begun, ended = seen.index(b"\x1b[?1049h"), seen.index(b"\x1b[?1049l")
    assert begun < seen.index(b"Store in schema") < seen.rindex(b"Store in schema") < ended
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")  # the cursor
    assert b"Traceback" not in seen


def read_until(terminal: int, enough: Callable[[bytes], bool]) -> bytes:
    """What comes from the terminal, until it is enough or over."""
    seen = b""
    while not enough(seen):
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux' way to say that nobody has the other end
            break
        if not part:
            break
        seen += part
    return seen


def test_a_reader_who_has_had_enough_is_no_error(provider: PostgresPersistenceProvider, database_url: str) -> None:
    everything(provider)
    reading, writing = os.pipe()
    os.close(reading)
    with in_a_process(database_url, "show", "mailing", "--all", stdout=writing, stderr=subprocess.PIPE) as show:
        os.close(writing)
        assert show.stderr is not None
        assert show.stderr.read() == b""


def test_an_output_without_unicode_is_no_error(
    provider: PostgresPersistenceProvider, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order(provider)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    with in_a_process(database_url, "show", "order-4711", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as show:
        output, reported_errors = show.communicate()
    assert (show.returncode, reported_errors) == (0, b"")
    assert b"do_label" in output
