"""The optional dependencies of `wfe_postgres.testing`."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.modules[{missing!r}] = None
import wfe_postgres.testing
wfe_postgres.testing.InMemoryPersistenceProvider()
try:
    import wfe_postgres.testing.conformance
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_suite_with_missing_dependency_says_what_to_install(missing: str) -> None:
    """The in-memory provider works without the dependency; the suite raises a one-line error."""
    completed = subprocess.run([sys.executable, "-c", PROGRAM.format(missing=missing)], capture_output=True, text=True)
    assert completed.stderr == ""
    assert completed.stdout.count("\n") == 1
    assert "pip install 'pytest>=8.3' 'hypothesis>=6.100'" in completed.stdout
