"""How long a fault test runs, and what it needs of the machine."""

import os
import shutil
from typing import TypeVar

import pytest

_T = TypeVar("_T")

LONG = os.environ.get("WFE_FAULTS") == "long"
"""The form of `make test-faults`; the short one is part of `make test`."""

STRICT = bool(os.environ.get("WFE_FAULTS_STRICT"))
"""Whether a tool that is missing is a failure."""


def runs(short: _T, long: _T) -> _T:
    """The number of rounds, or whatever else the form decides."""
    return long if LONG else short


def require_tool(name: str) -> str:
    """Where the program is; without it the test is skipped, or fails where every tool should be there."""
    if found := shutil.which(name):
        return found
    reason = f"{name} is not installed"
    return pytest.fail(reason) if STRICT else pytest.skip(reason)
