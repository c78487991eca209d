"""The shop on Django: the store on Django's own connection, served by gunicorn and driven over HTTP."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import InProcesses
from tests.examples.django_connection import all_of_it
from tests.examples.shops import ROOT, Shop, ShopTests, running


@pytest.fixture(scope="module")
def shop(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """See `Shop`."""
    with running("django", server, tmp_path_factory.mktemp("django") / "log") as shop:
        yield shop


class TestDjangoShop(ShopTests):
    """What both shops must do."""


def test_djangos_connection_is_as_it_was(database_url: str, in_processes: InProcesses) -> None:
    """State, loaders, dumpers and options; hooks and savepoints do what they do without the store."""
    [(before, after, hooks, left)] = in_processes(all_of_it, [(database_url,)])
    assert before == after
    assert before["savepoints"][0] == 1
    assert hooks == ["borrowed"]
    assert left == ["after a refusal", "borrowed", "outer"]


def test_django_has_nothing_to_migrate(shop: Shop) -> None:
    """The shop's migration makes what its models say; Django looks at nothing else."""
    command = [sys.executable, "-m", "django", "makemigrations", "--check", "--dry-run"]
    django = {"WFE_DATABASE_URL": shop.database_url, "DJANGO_SETTINGS_MODULE": "examples.shop.django_front.settings"}
    check = subprocess.run(command, cwd=ROOT, env=os.environ | django, capture_output=True, text=True, check=False)
    assert (check.returncode, check.stdout, check.stderr) == (0, "No changes detected\n", "")
