"""A temporary directory of their own for the tests of the embedded server."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


def has_room(path: Path) -> bool:
    """Whether some servers and their programs fit in there and can be run there."""
    if not path.is_dir():
        return False
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize > 2**30 and not facts.f_flag & (os.ST_NOEXEC | os.ST_RDONLY)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The temporary directory of this test and of the programs it starts, in memory if there is room."""
    tmp_path_factory.getbasetemp()  # pytest's own lies elsewhere
    place = Path(tempfile.mkdtemp(prefix="wfe-test-", dir=MEMORY if has_room(MEMORY) else "/tmp"))
    place.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    left = [path.name for path in place.iterdir()]
    shutil.rmtree(place)
    assert left == []
