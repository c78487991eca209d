"""The test runner of docs/how-to/django.md, run by Django on Django's kinds of tests."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import Sql
from tests.docs.pages import ROOT, blocks, program

PAGE = "how-to/django.md"
SETTINGS, VIEW, _, RUNNER, _ = blocks(PAGE, "python")

TESTS = """
import unittest

from django.test import TestCase, TransactionTestCase


class RolledBack(TestCase):
    def test_what_was_joined_is_seen_in_the_transaction_only(self):
        with transaction.atomic():
            tx = provider.using(connection.connection)
            id = tx.create_new_workflow(WorkflowInstance("order", 1, reference="joined"))
        assert tx.get_workflow_instance(id).reference == "joined"
        assert provider.find_workflows().items == []


class Committed(TransactionTestCase):
    def tearDown(self):
        provider.truncate_all()

    def test_both_ways_write_into_the_test_database(self):
        with transaction.atomic():
            tx = provider.using(connection.connection)
            tx.create_new_workflow(WorkflowInstance("order", 1, reference="joined"))
        provider.create_new_workflow(WorkflowInstance("order", 1, reference="own"))
        assert {item.reference for item in provider.find_workflows().items} == {"joined", "own"}


class Django(Runner):
    def build_suite(self, *labels, **options):
        load = unittest.defaultTestLoader.loadTestsFromTestCase
        return unittest.TestSuite([load(RolledBack), load(Committed)])


provider.close()
failures = Django(verbosity=0, interactive=False).run_tests([])
assert failures == 0
"""


def test_runner_gives_tests_a_store_in_the_test_database(empty_database_url: str, sql: Sql, tmp_path: Path) -> None:
    """The database of the settings stays empty, and the test database is dropped."""
    source = tmp_path / "tests.py"
    source.write_text(program([SETTINGS, VIEW, RUNNER]) + TESTS)
    environment = os.environ | {"WFE_DATABASE_URL": empty_database_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, source], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'wfc'") == []
    assert sql("SELECT datname FROM pg_database WHERE datname = 'test_' || current_database()") == []
