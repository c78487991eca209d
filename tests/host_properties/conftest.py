"""The time that the tests of this folder may take."""

from pathlib import Path

import pytest

from tests.faults.kit.form import LONG

LONGEST = 1_800
"""Seconds, for thousands of programs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the timeout of the tests of this folder in the long form."""
    for item in items:
        if LONG and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(LONGEST))
