"""Generate scripts with `alembic --sql`, and run them in psql."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from alembic.config import Config

from tests.migrations.stores import ROOT
from wfe_postgres.embedded.binaries import find_binaries


def printed(run_command: Callable[..., object], revisions: str, schema: str = "wfc") -> str:
    """The output of the command with `--sql`."""
    out = io.StringIO()
    config = Config(str(ROOT / "alembic.ini"), output_buffer=out, attributes={"schema": schema})
    run_command(config, revisions, sql=True)
    return out.getvalue()


def apply(url: str, script: str) -> str:
    """Run the script in psql, and return stderr. Skips the test without psql."""
    done = run_psql(url, script, "--quiet", "--set=ON_ERROR_STOP=1")
    assert (done.returncode == 0) == (done.stderr == "")
    return str(done.stderr)


def run_psql(url: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script in psql with these options alone."""
    program = [_psql(), "--no-psqlrc", *options, f"--dbname={url}", "--file=-"]
    environment = os.environ | {"PGOPTIONS": "-c client_min_messages=warning"} if options else None
    return subprocess.run(
        program, input=script, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _psql() -> str:
    return shutil.which("psql", path=str(find_binaries())) or shutil.which("psql") or pytest.skip("there is no psql")
