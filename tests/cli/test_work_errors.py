"""`work` refuses what is no host with one line, and shows the errors of the application's own code."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.cli.running import Command, error_line
from tests.cli.work_kit import WorkProcess
from tests.host_faults.kit.effects import eventually
from wfe_postgres.cli.application import load_host
from wfe_postgres.host import WorkflowHost
from wfe_postgres.schema import HEAD, REVISIONS

Sql = Callable[..., list[tuple[object, ...]]]
APPLICATION = """
import os
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import WorkflowBuilder, WorkflowHost
from wfe_postgres.testing import InMemoryPersistenceProvider

provider = PostgresPersistenceProvider(os.environ["SHOP_URL"], retry_budget=0)
host = WorkflowHost(provider, [WorkflowBuilder("order").start_with(print).build()])
idle = WorkflowHost(InMemoryPersistenceProvider())
number = 7


class settings:
    host = host


def make():
    return host


def make_number():
    return 7


def make_of(url):
    return host


def fail():
    raise ValueError("the settings are incomplete")
"""
MODULES = {"shop_app", "shop_package", "shop_package.app", "half"}
NOT_A_HOST = "is not a WorkflowHost, and not a callable without arguments that returns one"


@pytest.fixture
def folder(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with an application."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_URL", database_url)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "shop_app.py").write_text(APPLICATION)
    (tmp_path / "shop_package").mkdir()
    (tmp_path / "shop_package" / "app.py").write_text(APPLICATION)
    (tmp_path / "half.py").write_text("import nothing_of_this_name")
    yield tmp_path
    for name in MODULES & set(sys.modules):
        module = sys.modules.pop(name)
        if hasattr(module, "provider"):
            module.provider.close()


@pytest.mark.parametrize(
    "target", ["shop_app:host", "shop_app:make", "shop_app:settings.host", "shop_package.app:host"]
)
@pytest.mark.usefixtures("folder")
def test_host_is_found_in_the_current_directory(target: str) -> None:
    host = load_host(target)
    assert isinstance(host, WorkflowHost)
    assert list(host.definitions) == [("order", 1)]


@pytest.mark.parametrize(
    "target", ["shop_app", "shop_app:", ":host", "", "shop/app.py:host", ".app:host", "shop_app:host()"]
)
def test_target_that_names_no_host_is_refused(command: Command, folder: Path, target: str) -> None:
    line = error_line(command("work", "--", target), 2)
    assert line == f"{target!r} does not name a host: expected MODULE:HOST, for example shop.workflows:host"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("shop_app:hoast", "module 'shop_app' has no 'hoast'"),
        ("shop_app:number", f"shop_app:number {NOT_A_HOST}"),
        ("shop_app:make_number", f"shop_app:make_number {NOT_A_HOST}"),
        ("shop_app:make_of", f"shop_app:make_of {NOT_A_HOST}"),
        ("shop_app:WorkflowHost", f"shop_app:WorkflowHost {NOT_A_HOST}"),
        ("shop_app:idle", "the host shop_app:idle has no definitions"),
    ],
)
def test_what_is_no_host_is_refused(command: Command, folder: Path, target: str, expected: str) -> None:
    assert error_line(command("work", target), 2) == expected


@pytest.mark.parametrize("module", ["missing", "shop_package.missing", "missing.app", "shop_app.host"])
def test_missing_module_is_refused(command: Command, folder: Path, module: str) -> None:
    line = error_line(command("work", f"{module}:host"), 2)
    assert line == f"there is no module {module!r}, neither in {folder} nor installed"


@pytest.mark.parametrize(
    ("target", "cause", "problem"),
    [
        ("half:host", "No module named 'nothing_of_this_name'", "module 'half' could not be imported"),
        ("shop_app:fail", "ValueError: the settings are incomplete", "shop_app:fail could not be called"),
    ],
)
def test_error_of_the_application_is_shown_with_its_traceback_once(
    folder: Path, database_url: str, target: str, cause: str, problem: str
) -> None:
    """Also of several processes: the others are not started."""
    work = WorkProcess(folder, database_url, target, "--processes", "3")
    assert work.process.wait(60) == 2
    assert work.log.count("Traceback (most recent call last)") == work.log.count(cause) == 1
    assert work.log.splitlines()[-1] == f"wfe-postgres: {problem}"


@pytest.mark.parametrize(
    ("options", "message"), [(("--processes", "0"), "--processes"), (("--threads", "0"), "--threads")]
)
def test_number_below_one_is_refused(command: Command, folder: Path, options: tuple[str, str], message: str) -> None:
    result = command("work", "shop_app:host", *options)
    assert (result.code, result.output) == (2, "")
    assert message in result.reported_errors


def test_options_of_the_database_are_refused(command: Command, folder: Path, database_url: str) -> None:
    result = command("--url", database_url, "work", "shop_app:host")
    assert (result.code, result.output) == (2, "")
    assert "the database is that of the host" in result.reported_errors


def test_missing_store_is_refused(
    command: Command, folder: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_URL", empty_database_url)
    line = error_line(command("work", "shop_app:host"), 2)
    assert line == "there is no store in schema wfc: run `wfe-postgres upgrade`"


def test_store_of_another_revision_is_refused(command: Command, folder: Path, sql: Sql) -> None:
    sql("UPDATE wfc.alembic_version SET version_num = %s", [REVISIONS[-2]])
    line = error_line(command("work", "shop_app:host"), 2)
    assert f"older than this library ({HEAD}): run `wfe-postgres upgrade`" in line


def test_missing_database_is_reported(
    command: Command, folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(database_url).set(database="wfe_nowhere").render_as_string(hide_password=False)
    monkeypatch.setenv("SHOP_URL", url)
    line = error_line(command("work", "shop_app:host"), 3)
    assert line.startswith("cannot connect to ")
    assert line.endswith("/wfe_nowhere: the database does not exist: create it first")


def test_database_that_is_unavailable_is_waited_for_until_a_signal(folder: Path) -> None:
    work = WorkProcess(folder, "postgresql://wfe:wfe@localhost:1/wfe", "shop_app:host")
    eventually(lambda: work.lines("WARNING"), found=lambda: work.log)
    assert work.lines("WARNING")[0].startswith("the database is unavailable, the host waits for it: cannot connect")
    assert work.process.poll() is None
    assert work.stop() == 143
