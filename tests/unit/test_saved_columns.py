"""Which columns of a workflow's own row a save sends."""

from datetime import UTC, datetime

import pytest

from wfe_postgres import WorkflowInstance, WorkflowStatus
from wfe_postgres.codec.change_tracking import compare, snapshot_of, track_loaded


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "other"),
        ("root_workflow_id", "root"),
        ("workflow_definition_id", "other"),
        ("version", 2),
        ("description", "other"),
        ("reference", "other"),
        ("create_time", datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_columns_that_a_host_does_not_change_are_sent_only_if_they_were_changed(field: str, value: object) -> None:
    instance = WorkflowInstance("shop", 1, id="w", revision=7)
    track_loaded(instance, [], {}, 0)
    instance.status, instance.next_execution = WorkflowStatus.SUSPENDED, None
    instance.complete_time = datetime(2030, 1, 1, tzinfo=UTC)
    assert not compare(instance, instance.id, snapshot_of(instance)).row
    setattr(instance, field, value)
    assert compare(instance, instance.id, snapshot_of(instance)).row
