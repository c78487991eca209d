"""The store's tables as unmanaged models, to query: what writes them is `host()` and `using()`.

The columns that can hold customer data (`data`, the events' and pointers' payloads) are left out.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.ext.django import conf
from wfe_postgres.ext.django.untyped import Manager, Model

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _table(name: str) -> str:
    """Django takes what is quoted already as it is: the name of a table in another schema."""
    schema = str(conf.read().schema).replace('"', '""')
    return f'"{schema}"."{name}"'


class StoreManager(Manager):
    """Reads the database that the setting names, without a router."""

    def get_queryset(self) -> Any:
        """The rows of the store."""
        return super().get_queryset().using(conf.read().database)


class Workflow(Model):
    """A workflow."""

    id: Any = models.TextField(primary_key=True)
    definition_id: Any = models.TextField("definition")
    version: Any = models.IntegerField()
    status: Any = models.TextField(choices=[(it.value, it.value) for it in WorkflowStatus])
    name: Any = models.TextField(unique=True)
    reference: Any = models.TextField(null=True)
    description: Any = models.TextField(null=True)
    root_workflow_id: Any = models.TextField(null=True)
    next_execution: Any = models.BigIntegerField(null=True)
    create_time: Any = models.DateTimeField("created")
    complete_time: Any = models.DateTimeField("completed", null=True)

    objects: Any = StoreManager()

    class Meta:
        """A table of the store."""

        managed: bool = False
        db_table: str = _table("workflows")
        default_permissions: Any = ("view",)
        permissions: Any = (("resume_workflow", "Can resume suspended workflows"),)

    def __str__(self) -> str:
        return f"{self.definition_id} {self.id}"

    @property
    def next_due(self) -> datetime | None:
        """When it goes on; `None`: when it is given an event, or not at all."""
        if self.next_execution is None or self.status != WorkflowStatus.RUNNABLE:
            return None
        return _EPOCH + timedelta(milliseconds=max(self.next_execution, 0))


class ExecutionPointer(Model):
    """A step that a workflow has reached."""

    pk: Any = models.CompositePrimaryKey("workflow_id", "id")
    id: Any = models.TextField()
    workflow: Any = models.ForeignKey(Workflow, models.DO_NOTHING, related_name="pointers", db_constraint=False)
    step_id: Any = models.IntegerField()
    step_name: Any = models.TextField(null=True)
    status: Any = models.TextField(choices=[(it.value, it.value) for it in PointerStatus])
    active: Any = models.BooleanField()
    start_time: Any = models.DateTimeField(null=True)
    end_time: Any = models.DateTimeField(null=True)
    sleep_until: Any = models.DateTimeField(null=True)
    event_name: Any = models.TextField(null=True)
    event_key: Any = models.TextField(null=True)
    retry_count: Any = models.IntegerField(null=True)
    position: Any = models.BigIntegerField()

    objects: Any = StoreManager()

    class Meta:
        """A table of the store."""

        managed: bool = False
        db_table: str = _table("execution_pointers")
        default_permissions: Any = ()
        ordering: Any = ("position",)


class ExecutionError(Model):
    """What a step has raised."""

    id: Any = models.IntegerField(primary_key=True)
    workflow: Any = models.ForeignKey(Workflow, models.DO_NOTHING, related_name="errors", db_constraint=False)
    execution_pointer_id: Any = models.TextField()
    error_time: Any = models.DateTimeField()
    message: Any = models.TextField()

    objects: Any = StoreManager()

    class Meta:
        """A table of the store."""

        managed: bool = False
        db_table: str = _table("execution_errors")
        default_permissions: Any = ()
        ordering: Any = ("error_time", "id")
