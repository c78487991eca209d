"""The short and long form of the fault tests, and the programs that they need."""

import os
import shutil
from typing import TypeVar

import pytest

_T = TypeVar("_T")

LONG = os.environ.get("WFE_FAULTS") == "long"
"""The form of `make test-faults`; the short one is part of `make test`."""

STRICT = bool(os.environ.get("WFE_FAULTS_STRICT"))
"""Whether a missing program fails the test instead of skipping it."""


def runs(short: _T, long: _T) -> _T:
    """Return `long` in the long form and `short` otherwise."""
    return long if LONG else short


def require_tool(name: str) -> str:
    """Return the path of the program. If it is missing, skip the test, or fail it if `STRICT` is set."""
    if found := shutil.which(name):
        return found
    reason = f"{name} is not installed"
    return pytest.fail(reason) if STRICT else pytest.skip(reason)
