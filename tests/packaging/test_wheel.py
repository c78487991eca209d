"""The wheel is complete, and works in a clean virtual environment."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from wfe_postgres import PostgresPersistenceProvider, WorkflowInstance
import wfe_postgres
assert "site-packages" in wfe_postgres.__file__
with PostgresPersistenceProvider(sys.argv[1]) as provider:
    provider.ensure_store_exists()
    id = provider.create_new_workflow(WorkflowInstance("order", 1))
    assert provider.get_workflow_instance(id).workflow_definition_id == "order"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_wheel_contains_every_file(wheel: Path) -> None:
    """The wheel contains every file of the package and every migration."""
    sources = [it for it in (ROOT / "wfe_postgres").rglob("*") if it.is_file() and "__pycache__" not in it.parts]
    migrations = [it for it in (ROOT / "migrations").rglob("*") if it.is_file() and "__pycache__" not in it.parts]
    expected = {str(it.relative_to(ROOT)) for it in sources}
    expected |= {f"wfe_postgres/{it.relative_to(ROOT)}" for it in migrations}
    assert expected <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.timeout(300)
def test_wheel_works_with_its_dependencies_only(wheel: Path, tmp_path: Path, empty_database_url: str) -> None:
    """Installed without extras, the library works, and the command reports the missing extra."""
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(pip, check=True, cwd=tmp_path)
    subprocess.run([python, "-c", PROGRAM, empty_database_url], check=True, cwd=tmp_path)
    command = subprocess.run(
        [tmp_path / "clean" / "bin" / "wfe-postgres", "check"], capture_output=True, text=True, cwd=tmp_path
    )
    assert command.returncode != 0
    assert "pip install 'wfe-postgres[cli]'" in command.stderr
    assert len(command.stderr.splitlines()) == 1
