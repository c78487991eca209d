"""Options before the command's name, invalid command lines, shell completion, and output that cannot be written."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import ARGUMENTS, Command, error_line, succeeded
from tests.cli.scenarios import everything
from tests.cli.test_screens import read_until, start_process
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance, WorkflowStatus

BASH = shutil.which("bash") or ""


def test_url_and_schema_are_accepted_before_and_after_the_command(
    command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows the command's name takes precedence, then what precedes it, then the environment."""
    monkeypatch.setenv("WFE_DATABASE_URL", "postgresql://localhost:1/wfe")
    monkeypatch.setenv("WFE_SCHEMA", "of_environment")
    assert "in schema first" in error_line(command("--schema", "first", "check", "--url", database_url), 2)
    assert "in schema first" in error_line(command("--url", database_url, "--schema", "first", "check"), 2)
    assert "in schema last" in error_line(
        command("--url", database_url, "--schema", "first", "check", "--schema", "last"), 2
    )
    assert "in schema of_environment" in error_line(command("--url", database_url, "check"), 2)
    succeeded(command("--url", "postgresql://localhost:1/wfe", "--schema", "wfc", "check", "--url", database_url))


def test_schema_before_demo_is_the_schema_of_the_demo(command: Command, database_url: str) -> None:
    line = error_line(command("--url", database_url, "--schema", 'x"; DROP', "demo"), 2)
    assert line.startswith("a schema's name that would have to be quoted is not supported")


@pytest.mark.parametrize("arguments", [("--url", "postgresql://localhost/wfe"), ("--schema", "wfc")])
def test_options_without_a_command_are_rejected(command: Command, arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert (result.code, result.output) == (2, "")
    assert "Missing command" in result.reported_errors


@pytest.mark.parametrize("name", ["list", "show", "suspend", "publish"])
def test_text_that_cannot_be_stored_is_rejected_as_invalid_command_line(cli: Command, name: str) -> None:
    unpaired = "\udcff"  # what a byte outside UTF-8 becomes
    arguments = {"list": ("--definition", unpaired), "publish": (unpaired, "key")}.get(name, (unpaired,))
    error_line(cli(name, *arguments), 2)


def complete(*words: str) -> list[str]:
    """What the shell offers after these words."""
    environment = os.environ | {
        "_WFE_POSTGRES_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["wfe-postgres", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(["wfe-postgres"], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_shell_completes_commands_and_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    assert complete("sus") == ["suspend"]
    assert set(ARGUMENTS) < set(complete(""))
    assert complete("list", "--status", "Sus") == ["Suspended"]


@pytest.mark.skipif(not BASH, reason="needs bash")
def test_printed_script_completes_in_bash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    script = """
        eval "$(wfe-postgres --show-completion)"
        found=$(complete -p wfe-postgres) && found=${found#*-F }
        COMP_WORDS=(wfe-postgres --url x purge-) COMP_CWORD=3
        ${found%% *} wfe-postgres && echo "${COMPREPLY[@]}"
    """
    done = subprocess.run([BASH, "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"purge-events", "purge-errors", "purge-orphans"}


def test_completion_script_is_printed(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "_WFE_POSTGRES_COMPLETE" in succeeded(command("--show-completion", "bash")).output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [("list",), ("list", "--json"), ("status",), ("show", "mailing", "--all"), ("check",), ("--help",)]
)
def test_output_that_cannot_be_written_is_reported(
    provider: PostgresPersistenceProvider,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what is buffered is written again at the end of the process
    everything(provider)
    with (
        open("/dev/full", "wb") as full,  # noqa: PTH123
        start_process(database_url, *arguments, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.read() == b"wfe-postgres: cannot write the output: No space left on device\n"
    assert process.returncode == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("show", "unknown"), ("unknown",)])
def test_error_that_cannot_be_written_has_an_exit_code(database_url: str, arguments: tuple[str, ...]) -> None:
    with (
        open("/dev/full", "wb") as full,  # noqa: PTH123
        start_process(database_url, *arguments, stdout=subprocess.PIPE, stderr=full) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == 4


def test_errors_on_a_terminal_are_folded_between_words(database_url: str) -> None:
    controller, terminal = pty.openpty()
    name = "an-order " * 20
    with start_process(database_url, "show", name, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        lines = read_until(controller, lambda _: False).decode().splitlines()
    os.close(controller)
    assert (process.returncode, len(lines)) == (1, 3)
    assert " ".join(line.strip() for line in lines) == f"wfe-postgres: there is no workflow {name!r}".strip()
    assert all(len(line) <= 80 for line in lines)


def test_closed_pipe_does_not_stop_the_change_of_workflows(
    provider: PostgresPersistenceProvider, database_url: str
) -> None:
    for _ in range(20):
        provider.create_new_workflow(WorkflowInstance("order", 1))
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ("suspend", "--definition", "order", "--yes")
    with start_process(database_url, *arguments, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert provider.find_workflows(status=WorkflowStatus.RUNNABLE).items == []


def test_closed_pipe_ends_watching(database_url: str) -> None:
    arguments = ("status", "--watch", "--every", "0.1", "--json")
    with start_process(database_url, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        watch.stdout.readline()
        watch.stdout.close()
        assert watch.stderr.read() == b""
