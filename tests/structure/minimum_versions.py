"""Prints pip constraints that pin what the package depends on to the lowest versions that it declares."""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def constraints() -> list[str]:
    """A line per dependency: `sqlalchemy==2.0.40` for `sqlalchemy>=2.0.40,<2.2`."""
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    return [re.sub(r"(\[.*?\])?>=([\d.]+).*", r"==\2", it) for it in dependencies]


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints()) + "\n")
