"""The module of the page on RQ works with a worker of RQ, which refuses functions of a main program."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.filled import fill
from tests.docs.pages import blocks, program

PAGE = "how-to/rq.md"


def test_module_of_the_page_runs_twice_on_a_database_in_use(empty_database_url: str, tmp_path: Path) -> None:
    fill(empty_database_url)
    (tmp_path / "shop.py").write_text(program(blocks(PAGE, "python")))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import shop; shop.try_it()"],
            env=os.environ | {"WFE_DATABASE_URL": empty_database_url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
