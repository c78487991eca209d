"""`flask wfe`: on the engine, the schema and the host of the application."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from tests.conftest import Sql
from tests.ext.flask.application import Shop
from tests.ext.flask.conftest import Run
from wfe_postgres.ext.flask import WFE

ROOT = Path(__file__).parents[3]
TIMEOUT = 60.0
APP = "tests.ext.flask.application:create_app"
WITHOUT_TYPER = "import sys; sys.modules['typer'] = None; from flask.cli import main; main()"
StartFlask = Callable[..., "subprocess.Popen[bytes]"]


def invoke(app: Flask, *arguments: str) -> tuple[int, str]:
    """The exit code of `flask wfe`, and its output."""
    result = app.test_cli_runner().invoke(args=["wfe", *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("schema", ["wfc", "shop"])
def test_store_is_made_checked_and_shown(make_app: Run, empty_database_url: str, sql: Sql, schema: str) -> None:
    app = make_app(Shop(options={"schema": schema}), empty_database_url)
    for command in ("check", "status", "work"):
        code, output = invoke(app, command)
        assert code == 2
        assert output.startswith("flask wfe: the")
        assert f"schema {schema}" in output
        assert "run `flask wfe upgrade`" in output
    code, output = invoke(app, "upgrade")
    assert (code, "is up to date" in output) == (0, True)
    code, output = invoke(app, "check")
    assert (code, "is as it should be" in output) == (0, True)
    app.test_client().post("/orders/4711")
    code, output = invoke(app, "status", "--json")
    assert (code, json.loads(output)["statistics"]["runnable_due"]) == (0, 1)
    sql(f"ALTER TABLE {schema}.events ADD COLUMN surplus int")
    code, output = invoke(app, "check")
    assert (code, "surplus" in output) == (1, True)


def test_configuration_that_is_refused_is_told_in_a_line() -> None:
    app, db = Flask("shop"), SQLAlchemy()
    app.config |= {"SQLALCHEMY_DATABASE_URI": "sqlite://"}
    db.init_app(app)
    WFE(app, db)
    for command in ("upgrade", "work"):
        code, output = invoke(app, command)
        assert code == 2
        assert output.startswith("flask wfe: SQLALCHEMY_DATABASE_URI: the engine must be postgresql+psycopg")


def test_unreachable_database_is_told_in_a_line() -> None:
    app, db = Flask("shop"), SQLAlchemy()
    app.config |= {"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg://shop:secret@127.0.0.1:9/shop"}
    db.init_app(app)
    WFE(app, db)
    code, output = invoke(app, "check")
    assert code == 3
    assert output.startswith("flask wfe: cannot connect to shop:***@127.0.0.1:9/shop")
    assert "secret" not in output


def test_work_without_definitions_is_refused(database_url: str) -> None:
    app, db = Flask("shop"), SQLAlchemy()
    app.config |= {"SQLALCHEMY_DATABASE_URI": database_url.replace("postgresql:", "postgresql+psycopg:", 1)}
    db.init_app(app)
    WFE(app, db)
    code, output = invoke(app, "work")
    assert (code, "there are no definitions" in output) == (2, True)


@pytest.fixture
def start_flask(database_url: str, tmp_path: Path) -> Iterator[StartFlask]:
    """Starts `flask` with the shop's application factory, in a process that logs to a file."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"SHOP_URL": database_url, "FLASK_APP": APP}
        with (tmp_path / "log").open("wb") as log:
            started.append(subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("options", [[], ["--processes", "2", "--threads", "3"]])
def test_work_runs_the_workflows_until_sigterm(
    make_app: Run, database_url: str, start_flask: StartFlask, tmp_path: Path, options: list[str]
) -> None:
    shop = Shop()
    app = make_app(shop, database_url)
    id = app.test_client().post("/orders/4711").get_json()["workflow"]
    worker = start_flask("-m", "flask", "wfe", "work", *options)
    starts = "starts with 3 threads: order v1" if options else "starts with 4 threads: order v1"
    deadline = time.monotonic() + TIMEOUT
    while (tmp_path / "log").read_text().count(starts) < (2 if options else 1):
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    with app.app_context():
        shop.wfe.host.wait_for_workflow(id, TIMEOUT)
        assert shop.orders() == [("4711", "placed"), ("4711", "shipped")]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(TIMEOUT) == 0


def test_command_without_its_extra_names_the_extra(start_flask: StartFlask, tmp_path: Path) -> None:
    assert start_flask("-c", WITHOUT_TYPER, "wfe", "check").wait(TIMEOUT) == 1
    assert "pip install 'wfe-postgres[cli]'" in (tmp_path / "log").read_text()
