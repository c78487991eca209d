"""`manage.py wfe_work` runs the workflows of the project, and steps are committed with their results."""

import signal
from typing import Any

import pytest

from tests.conftest import Sql
from tests.ext.django.kit import TIMEOUT, manage, python, start
from wfe_postgres import PostgresPersistenceProvider

PLACE = """
from django.db import transaction
from tests.ext.django.shop.models import Order
from wfe_postgres.ext.django import host, using
with transaction.atomic():
    Order.objects.create(number="1")
    id = using().start_workflow("order", {"number": "1"}, name="mine")
    using().publish_event("paid", "1")
"""
AWAIT = "print(host().wait_for_workflow(id, timeout=50).status)\n"
POOL = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2, "timeout": 5}}}


@pytest.mark.parametrize(
    ("arguments", "vary"),
    [((), {}), (("--processes=2", "--threads=3"), {"database": POOL}), (("--threads=1",), {"wfe": {"QUEUE": True}})],
    ids=str,
)
def test_worker_runs_a_workflow_and_stops(
    arguments: tuple[str, ...], vary: dict[str, Any], empty_database_url: str, sql: Sql
) -> None:
    """Its steps are committed with their rows."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    worker = start(empty_database_url, "wfe_work", *arguments, **vary)
    try:
        assert python(empty_database_url, PLACE + AWAIT, **vary) == "Complete\n"
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=TIMEOUT)
    finally:
        worker.kill()
        worker.communicate()
    assert worker.returncode == 0, log
    assert "starts with" in log
    assert sql("SELECT steps FROM shop_order") == [(2,)]


MANY = """
from django.db import transaction
from wfe_postgres.ext.django import host, using
with transaction.atomic():
    ids = [using().start_workflow("{definition}", {"number": str(it)}, name=f"many {it}") for it in range(8)]
    [using().publish_event("paid", str(it)) for it in range(8)]
transaction.get_connection().close()
print({host().wait_for_workflow(id, timeout=50).status for id in ids})
"""


@pytest.mark.parametrize("definition", ["order", "outside"])
def test_threads_at_rest_hold_no_connection_of_the_pool(definition: str, empty_database_url: str) -> None:
    """Four threads use one connection in turn, and no try is lost; also in steps without a transaction."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    database = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": 5}}}
    worker = start(empty_database_url, "wfe_work", "--threads=4", database=database)
    try:
        assert (
            python(empty_database_url, MANY.replace("{definition}", definition))
            == "{<WorkflowStatus.COMPLETE: 'Complete'>}\n"
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=TIMEOUT)
    with PostgresPersistenceProvider(empty_database_url) as provider:
        assert provider.get_execution_errors() == []


CUT_BETWEEN_STEPS = """
from django.db import connection
from sqlalchemy import text
from wfe_postgres.ext.django import host, provider
host().start_workflow("outside", {"number": "1"})
host().run_until_idle()
with provider().engine.connect() as other:
    other.execute(text(f"SELECT pg_terminate_backend({connection.connection.info.backend_pid}, 5000)"))
id = host().start_workflow("outside", {"number": "1"})
host().run_until_idle()
print(provider().get_workflow_instance(id).status)
"""


def test_step_without_a_transaction_does_not_use_a_connection_again_that_was_lost(empty_database_url: str) -> None:
    """The try that finds it lost fails; the next one connects."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    assert python(empty_database_url, CUT_BETWEEN_STEPS, database={"CONN_MAX_AGE": None}) == "Complete\n"


KILL_AT_COMMIT = """
CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('cuts') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
  RETURN NULL;
END $$;
CREATE SEQUENCE cuts;
CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON shop_order DEFERRABLE INITIALLY DEFERRED
   FOR EACH ROW EXECUTE FUNCTION cut();
"""


@pytest.mark.parametrize("database", [{}, POOL, {"CONN_MAX_AGE": None}], ids=str)
def test_step_whose_commit_loses_its_connection_is_a_lost_try(
    database: dict[str, Any], empty_database_url: str, sql: Sql
) -> None:
    """It is repeated at once; its rows are written once, and none of its retries is used up."""
    manage(empty_database_url, "migrate", "--verbosity=0")
    sql(KILL_AT_COMMIT)
    python(empty_database_url, PLACE + "host().run_until_idle()\n", database=database)
    assert sql("SELECT steps FROM shop_order") == [(2,)]
    with PostgresPersistenceProvider(empty_database_url) as provider:
        workflow = provider.get_workflow_instance_by_name("mine")
        assert workflow.status == "Complete"
        assert [it.retry_count for it in workflow.execution_pointers] == [0, 0, 0]
        assert [it.message.split(":")[0] for it in provider.get_execution_errors(workflow.id)] == ["LostTryError"]


def test_step_in_another_isolation_level_is_refused(empty_database_url: str) -> None:
    manage(empty_database_url, "migrate", "--verbosity=0")
    program = PLACE + "host().run_until_idle()\n"
    options = {"OPTIONS": {"isolation_level": 3}}  # psycopg.IsolationLevel.REPEATABLE_READ
    python(empty_database_url, program, database=options)
    with PostgresPersistenceProvider(empty_database_url) as provider:
        workflow = provider.get_workflow_instance_by_name("mine")
        assert "must be READ COMMITTED, not REPEATABLE READ" in provider.get_execution_errors(workflow.id)[0].message
