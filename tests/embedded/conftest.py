"""A separate temporary directory for each test of the embedded server."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")


def has_room(path: Path) -> bool:
    """Whether the directory has space for several servers and can contain executables."""
    if not path.is_dir():
        return False
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize > 2**30 and not facts.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)


@pytest.fixture
def temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary directory for this test and its subprocesses, in shared memory if possible; must be empty after."""
    tmp_path_factory.getbasetemp()  # create pytest's base directory before TMPDIR changes
    temporary_directory = Path(
        tempfile.mkdtemp(prefix="wfe-test-", dir=SHARED_MEMORY if has_room(SHARED_MEMORY) else "/tmp")
    )
    temporary_directory.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(temporary_directory))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary_directory))
    yield temporary_directory
    left = [path.name for path in temporary_directory.iterdir()]
    shutil.rmtree(temporary_directory)
    assert left == []
