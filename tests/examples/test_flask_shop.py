"""The shop on Flask-SQLAlchemy: served by gunicorn with --preload and two workers, driven over HTTP."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.examples.shops import ROOT, Shop, ShopTests, running
from wfe_postgres.schema import HEAD


@pytest.fixture(scope="module")
def shop(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """See `Shop`."""
    with running("flask", server, tmp_path_factory.mktemp("flask") / "log") as shop:
        yield shop


class TestFlaskShop(ShopTests):
    """What both shops must do."""


def flask(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "examples.shop.flask_front.app", *arguments]
    environment = os.environ | {"WFE_DATABASE_URL": shop.database_url}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_two_histories(shop: Shop) -> None:
    """The shop's in `public`, the store's in `wfc`; and Flask-Migrate finds nothing that it would change."""
    assert shop.rows("SELECT version_num FROM public.alembic_version") == [("0001",)]
    assert shop.rows("SELECT version_num FROM wfc.alembic_version") == [(HEAD,)]
    check = flask(shop, "db", "check")
    assert (check.returncode, check.stdout) == (0, "No new upgrade operations detected.\n"), check.stderr
