"""Fixtures that call the command in this process."""

import sys
from collections.abc import Iterator

import pytest

from tests.cli.running import SECRET, Command, Result
from wfe_postgres.__main__ import main
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Calls the command in this process, and checks that its output has no secret and no traceback."""
    for name in ("WFE_DATABASE_URL", "WFE_SCHEMA", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["wfe-postgres", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        result = Result(end.value.code, *capfd.readouterr())
        assert SECRET not in result.output + result.reported_errors
        assert "Traceback" not in result.reported_errors
        return result

    return call


@pytest.fixture
def cli(command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on the store of this test."""
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    return command


@pytest.fixture(params=[60, 80, 120])
def columns(request: pytest.FixtureRequest, command: Command, monkeypatch: pytest.MonkeyPatch) -> int:
    """The terminal width that the command uses. (Depends on `command`, which clears the environment.)"""
    width: int = request.param
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    return width


@pytest.fixture(scope="module")
def tcp_url() -> Iterator[str]:
    """The URL of a server with password authentication."""
    try:
        with EmbeddedPostgres(tcp=True) as server:
            yield server.url
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
