"""The parameters of the statements that create and save a workflow."""

from collections.abc import Sequence
from typing import Any

from wfe_postgres.codec.change_tracking import Changes
from wfe_postgres.codec.encoding import encode_pointer, encode_records, encode_subscription, workflow_record
from wfe_postgres.codec.json_values import check_call_size, encode
from wfe_postgres.contract.models import EventSubscription, WorkflowInstance

Parameters = dict[str, Any]


def creation_parameters(
    instance: WorkflowInstance, name: str, changes: Changes, revision: int, limit: int
) -> Parameters:
    """What a creation sends, under the id of `changes.after`. `limit`: of a JSON value, in bytes.

    SerializationError: a value cannot be stored, or all are too much for one call.
    """
    id = changes.after.workflow_id
    params = workflow_record(instance, id, name)
    params["data"] = encode(instance.data, "data", limit)
    params["pointers"] = _encode_pointers(instance, changes, limit)
    params["revision"] = revision
    _check_size(params)
    return params


def save_parameters(
    instance: WorkflowInstance,
    subscriptions: Sequence[EventSubscription],
    subscription_ids: Sequence[str],
    changes: Changes,
    revision: int,
    limit: int,
) -> Parameters:
    """What a save sends: of the pointers and the data what has changed. Raises as `creation_parameters` does."""
    params = workflow_record(instance, instance.id, instance.name)
    params["workflow_id"] = params.pop("id")
    params["data"] = encode(instance.data, "data", limit) if changes.data else None
    params["pointers"] = _encode_pointers(instance, changes, limit)
    params["removed"] = changes.removed
    params["kept"] = list(changes.after.pointers) if changes.is_complete else []
    params["subscriptions"] = _encode_subscriptions(subscriptions, subscription_ids, limit)
    params["expected_revision"] = None if instance.revision is None else int(instance.revision)
    params["new_revision"] = revision
    _check_size(params)
    return params


def _encode_pointers(instance: WorkflowInstance, changes: Changes, limit: int) -> str:
    pointers, id = instance.execution_pointers, changes.after.workflow_id
    return encode_records(
        encode_pointer(pointers[index], position, id, f"execution_pointers[{index}]", limit)
        for index, position in changes.pointers
    )


def _encode_subscriptions(subscriptions: Sequence[EventSubscription], ids: Sequence[str], limit: int) -> str:
    return encode_records(
        encode_subscription(subscription, id, f"subscriptions[{index}].", limit)
        for index, (subscription, id) in enumerate(zip(subscriptions, ids, strict=True))
    )


def _check_size(params: Parameters) -> None:
    sent = (params.get(name) for name in ("description", "data", "pointers", "subscriptions"))
    check_call_size("execution_pointers", *sent)
