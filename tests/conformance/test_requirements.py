"""What the parts of `wfe_postgres.testing` need to be installed."""

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
def test_the_suite_says_what_to_install(missing: str) -> None:
    """The in-memory provider does without; the suite says in one line what it lacks."""
    answer = subprocess.run([sys.executable, "-c", PROGRAM.format(missing=missing)], capture_output=True, text=True)
    assert answer.stderr == ""
    assert answer.stdout.count("\n") == 1
    assert "pip install 'pytest>=8.3' 'hypothesis>=6.100'" in answer.stdout
