"""Tests of a project, which Django's runner runs in a test database."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase, TransactionTestCase

from tests.ext.django.shop.models import Order
from wfe_postgres import WorkflowNotFoundError
from wfe_postgres.ext.django import current, host, provider, using
from wfe_postgres.ext.django.models import Workflow
from wfe_postgres.ext.django.testing import WorkflowTestMixin
from wfe_postgres.testing import ManualClock


class Ways:
    """What is the same in both kinds of tests."""

    client: Any
    clock: ManualClock
    run_until_idle: Any
    assertLogs: Any  # noqa: N815

    def test_view_is_run_to_its_end(self) -> None:
        id = self.client.get("/place?number=1").content.decode()
        self.run_until_idle()
        assert Order.objects.get().steps == 1
        assert provider().get_workflow_instance(id).status == "Runnable"
        host().publish_event("paid", "1")
        self.run_until_idle()
        assert Order.objects.get().steps == 2
        assert provider().get_workflow_instance(id).status == "Complete"

    def test_view_that_fails_leaves_nothing(self) -> None:
        self.client.raise_request_exception = False
        assert self.client.get("/place?number=1&fail=").status_code == 500
        assert not Order.objects.exists()
        assert provider().find_workflows(reference="1").items == []

    def test_failed_step_leaves_no_row_and_alarm_is_jumped_to(self) -> None:
        id = host().start_workflow("order", {"fails": True})
        began = self.clock()
        with self.assertLogs("wfe_postgres.host", "ERROR"):
            self.run_until_idle(advance=True)
        assert provider().get_workflow_instance(id).status == "Suspended"
        assert round((self.clock() - began).total_seconds()) == 60
        assert not Order.objects.exists()
        assert len(provider().get_execution_errors(id)) == 2

    def test_savepoint_takes_a_workflow_back(self) -> None:
        with transaction.atomic():
            using().start_workflow("order", name="kept")
            try:
                with transaction.atomic():
                    using().start_workflow("order", name="rolled back")
                    raise LookupError
            except LookupError:
                pass
        assert [it.name for it in provider().find_workflows(name_prefix="kept").items] == ["kept"]
        assert provider().find_workflows(name_prefix="rolled").items == []

    def test_models_read_the_store(self) -> None:
        id = host().start_workflow("order", {"number": "1"}, reference="r")
        self.run_until_idle()
        [workflow] = Workflow.objects.filter(reference="r")
        assert workflow.id == id
        assert [it.step_name for it in workflow.pointers.all()][:1] == ["count"]


class InTestCase(WorkflowTestMixin, Ways, TestCase):
    """Everything is in the transaction of the test."""

    def test_nothing_is_committed(self) -> None:
        host().start_workflow("order", {"number": "1"}, name="mine")
        assert provider().get_workflow_instance_by_name("mine")
        with pytest.raises(WorkflowNotFoundError):
            current.workflows().provider.get_workflow_instance_by_name("mine")


class InTransactionTestCase(WorkflowTestMixin, Ways, TransactionTestCase):
    """Everything is committed."""

    def test_using_is_refused_in_autocommit(self) -> None:
        with self.assertRaisesMessage(TransactionManagementError, "outside transaction.atomic()"):
            using()

    def test_using_is_refused_in_a_broken_transaction(self) -> None:
        with transaction.atomic():
            transaction.set_rollback(True)
            with self.assertRaisesMessage(TransactionManagementError, "end of the 'atomic' block"):
                using()

    def test_without_a_query_before(self) -> None:
        connection.close()
        with transaction.atomic():
            using().start_workflow("order", name="first")
        assert provider().get_workflow_instance_by_name("first")


class WithoutMixin(TransactionTestCase):
    """The provider is on the test database."""

    def tearDown(self) -> None:
        provider().truncate_all()

    def test_host_writes_into_the_test_database(self) -> None:
        host().start_workflow("order", name="own")
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_database() FROM wfc.workflows WHERE name = 'own'")
            [(name,)] = cursor.fetchall()
        assert name.startswith("test_")
