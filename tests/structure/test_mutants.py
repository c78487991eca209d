"""`make test-mutation` names tests, which may be renamed: it does not run with every change, this test does."""

from pathlib import Path

import pytest

from tests.mutation.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
SUITE = "\n".join(path.read_text() for path in (ROOT / "wfe_postgres/testing/conformance").rglob("*.py"))
NAMED = sorted({test for mutant in MUTANTS.values() for test in mutant.tests})


@pytest.mark.parametrize("test", NAMED)
def test_test_that_detects_a_mutant_exists(test: str) -> None:
    path, *_, name = test.partition("[")[0].split("::")
    assert f"def {name}(" in (ROOT / path).read_text() + SUITE
