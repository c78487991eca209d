"""The command, called in this process."""

import sys
from collections.abc import Iterator

import pytest

from tests.cli.running import SECRET, Command, Result
from wfe_postgres.__main__ import main
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Calls the command in this process. Whatever it says may hold no secret and no traceback."""
    for name in ("WFE_DATABASE_URL", "WFE_SCHEMA", "COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["wfe-postgres", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        result = Result(end.value.code, *capfd.readouterr())
        said = result.output + result.reported_errors
        assert SECRET not in said
        assert "Traceback" not in said
        return result

    return call


@pytest.fixture
def here(command: Command, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on this test's store."""
    monkeypatch.setenv("WFE_DATABASE_URL", database_url)
    return command


@pytest.fixture(params=[80, 120])
def columns(request: pytest.FixtureRequest, command: Command, monkeypatch: pytest.MonkeyPatch) -> int:
    """How wide the terminal is on which the command believes to be. (`command` has just cleared its environment.)"""
    width: int = request.param
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    return width


@pytest.fixture(scope="module")
def tcp_url() -> Iterator[str]:
    """A server that asks for passwords."""
    try:
        with EmbeddedPostgres(tcp=True) as server:
            yield server.url
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
