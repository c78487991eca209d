"""Contract objects become the records and the parameters that the statements take."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from wfe_postgres import (
    Event,
    EventSubscription,
    ExecutionError,
    ExecutionPointer,
    PointerStatus,
    ScheduledCommand,
    SerializationError,
    WorkflowInstance,
    WorkflowStatus,
)
from wfe_postgres.codec import encoding, json_values
from wfe_postgres.codec.change_tracking import POSITION_GAP, compare, snapshot_of, track_loaded
from wfe_postgres.codec.decoding import read_pointers
from wfe_postgres.codec.fields import POINTER_FIELDS
from wfe_postgres.codec.validation import MAX_KEY_BYTES

LIMIT = json_values.MAX_PAYLOAD_BYTES
EAST = datetime(2030, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
STORED = "2030-01-02T03:04:05+00:00"

texts = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
timestamps = some.datetimes(timezones=some.just(UTC))
json_like: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: some.lists(inner, max_size=2) | some.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)
pointers = some.builds(
    ExecutionPointer,
    step_id=some.integers(0, 2**31 - 1),
    id=texts,
    active=some.booleans(),
    status=some.sampled_from(PointerStatus),
    sleep_until=some.none() | timestamps,
    persistence_data=json_like,
    start_time=some.none() | timestamps,
    end_time=some.none() | timestamps,
    event_name=some.none() | texts,
    event_key=some.none() | texts,
    event_published=some.booleans(),
    event_data=json_like,
    step_name=some.none() | texts,
    retry_count=some.integers(0, 100),
    children=some.lists(texts, max_size=2),
    context_item=json_like,
    predecessor_id=some.none() | texts,
    outcome=json_like,
    scope=some.lists(texts, max_size=2),
    extension_attributes=some.dictionaries(texts, json_like, max_size=2),
)


def workflow(**changed: Any) -> WorkflowInstance:
    """A workflow with two pointers, as a load gives it, and then changed."""
    steps = [ExecutionPointer(0, id="a"), ExecutionPointer(1, id="b", outcome={"n": 1})]
    instance = WorkflowInstance("shop", 3, {"n": 1}, id="w", name="first", create_time=EAST, execution_pointers=steps)
    instance.revision = 41
    track_loaded(instance, [5, 6], {}, 0)
    return replace(instance, **changed)


def subscription(**changed: Any) -> EventSubscription:
    """A subscription that nobody holds."""
    return replace(EventSubscription("w", 1, "b", "paid", "1", EAST, id="s"), **changed)


def encoded(pointer: ExecutionPointer) -> dict[str, Any]:
    """The record of the pointer, decoded."""
    found: dict[str, Any] = json.loads(encoding.encode_pointer(pointer, 7, "w", "execution_pointers[0]", LIMIT))
    return found


def created(instance: WorkflowInstance, id: str = "w", limit: int = LIMIT) -> dict[str, Any]:
    """The parameters of a creation under this id."""
    return encoding.creation_parameters(instance, instance.name, compare(instance, id, None), 42, limit)


def saved(instance: WorkflowInstance, *waiting: EventSubscription, limit: int = LIMIT) -> dict[str, Any]:
    """The parameters of a save."""
    changes = compare(instance, instance.id, snapshot_of(instance))
    return encoding.save_parameters(instance, waiting, [it.id for it in waiting], changes, 42, limit)


def as_row(record: dict[str, Any]) -> list[Any]:
    """What the database gives back for the record: NULL where nothing was sent, and times without an offset."""
    found = [record.pop(field.column.key, None) for field in POINTER_FIELDS]
    assert not record, "nothing is sent that has no column"
    times = [field.column.key.endswith(("_time", "_until")) for field in POINTER_FIELDS]
    return [it.rstrip("Z").removesuffix("+00:00") if time and it else it for it, time in zip(found, times, strict=True)]


@settings(deadline=None, max_examples=50)
@given(pointers, some.integers(-(2**63), 2**63 - 1))
def test_encoded_pointer_reads_back_equal(pointer: ExecutionPointer, position: int) -> None:
    record = json.loads(encoding.encode_pointer(pointer, position, "w", "execution_pointers[0]", LIMIT))
    [read_back], positions, _ = read_pointers([json.dumps([*as_row(record), None])])
    assert read_back == pointer
    assert repr(read_back.outcome) == repr(pointer.outcome)
    assert positions == [position]


def test_pointer_leaves_out_json_that_is_none_and_sends_other_nulls() -> None:
    record = encoded(ExecutionPointer(1, id="a", outcome=0, sleep_until=EAST))
    assert record.keys().isdisjoint({"persistence_data", "event_data", "context_item"})
    assert (record["outcome"], record["end_time"], record["sleep_until"]) == (0, None, STORED)
    assert (record["children"], record["scope"], record["extension_attributes"]) == ([], [], {})


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("id", "a\0", "id"),
        ("id", "x" * MAX_KEY_BYTES, "id"),
        ("step_id", 2**31, "step_id"),
        ("step_id", 1.0, "step_id"),
        ("active", None, "active"),
        ("status", "waiting", "status"),
        ("sleep_until", datetime(2030, 1, 1), "sleep_until"),  # noqa: DTZ001 - it is here to be refused
        ("event_name", 5, "event_name"),
        ("retry_count", "1", "retry_count"),
        ("outcome", {"n": [float("nan")]}, "outcome.n[0]"),
        ("children", None, "children"),
        ("children", "ab", "children"),
        ("children", ["a", 5], "children[1]"),
        ("scope", {"a"}, "scope"),
        ("scope", ["a\0"], "scope[0]"),
        ("extension_attributes", [], "extension_attributes"),
        ("extension_attributes", {"a": {1}}, "extension_attributes.a"),
    ],
)
def test_bad_field_of_a_pointer_is_refused_with_its_path(name: str, value: Any, path: str) -> None:
    pointer = ExecutionPointer(0, id="a")
    setattr(pointer, name, value)
    with pytest.raises(SerializationError) as caught:
        encoded(pointer)
    assert caught.value.path == f"execution_pointers[0].{path}"


def test_workflow_record_has_the_columns_but_data_under_the_given_id_and_name() -> None:
    assert encoding.workflow_record(workflow(reference="r", complete_time=EAST), "other", "its name") == {
        "id": "other",
        "name": "its name",
        "root_workflow_id": None,
        "definition_id": "shop",
        "version": 3,
        "description": None,
        "reference": "r",
        "status": "Runnable",
        "next_execution": 0,
        "create_time": STORED,
        "complete_time": STORED,
    }


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"workflow_definition_id": None}, "workflow_definition_id"),
        ({"version": 2**31}, "version"),
        ({"next_execution": 2**63}, "next_execution"),
        ({"status": "Sleeping"}, "status"),
        ({"name": "x" * (MAX_KEY_BYTES + 1)}, "name"),
        ({"id": None}, "id"),
        ({"data": {"when": EAST}}, "data.when"),
        (
            {"execution_pointers": [ExecutionPointer(0), ExecutionPointer(0, scope=[None])]},  # type: ignore[list-item]
            "execution_pointers[1].scope[0]",
        ),
    ],
)
def test_bad_field_of_a_workflow_is_refused_with_its_path(changed: dict[str, Any], path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        saved(workflow(**changed))
    assert caught.value.path == path


def test_subscription_is_encoded_under_the_given_id() -> None:
    held = subscription(id="", external_token="t", external_token_expiry=EAST, subscription_data=[1])
    record = {
        "id": "new",
        "workflow_id": "w",
        "step_id": 1,
        "execution_pointer_id": "b",
        "event_name": "paid",
        "event_key": "1",
        "subscribe_as_of": STORED,
        "external_token": "t",
        "external_worker_id": None,
        "external_token_expiry": STORED,
    }
    assert encoding.subscription_record(held, "new") == record
    assert json.loads(encoding.encode_subscription(held, "new", "", LIMIT)) == record | {"subscription_data": [1]}
    assert json.loads(encoding.encode_subscription(subscription(), "s", "", LIMIT)).keys() == record.keys()


@pytest.mark.parametrize("data", [None, {"n": 1}])
def test_event_record_has_json_null_for_none(data: Any) -> None:
    record = encoding.event_record(Event("paid", "1", data, event_time=EAST), "e", LIMIT)
    assert json.loads(record.pop("event_data")) == data
    assert record == {"id": "e", "event_name": "paid", "event_key": "1", "event_time": STORED, "is_processed": False}


def test_name_and_key_of_an_event_share_one_index() -> None:
    name, key = "n" * 1300, "k" * 1300
    assert encoding.event_record(Event(name, key), "e", LIMIT)["event_key"] == key
    with pytest.raises(SerializationError, match=r"^event_key: takes 2601 bytes together with event_name"):
        encoding.event_record(Event(name, key + "k"), "e", LIMIT)
    with pytest.raises(SerializationError, match=r"^subscriptions\[1\]\.event_key: "):
        saved(workflow(), subscription(), subscription(event_name=name, event_key=key + "k"))


def test_error_record_has_the_nonce_and_refuses_by_path() -> None:
    error = ExecutionError("w", "a", "it failed", error_time=EAST)
    record = {"workflow_id": "w", "execution_pointer_id": "a", "message": "it failed", "error_time": STORED}
    assert encoding.error_record(error, 9, "errors[0]") == record | {"nonce": 9}
    with pytest.raises(SerializationError, match=r"^errors\[0\]\.message: "):
        encoding.error_record(replace(error, message="\0"), 9, "errors[0]")


def test_command_record_is_held_to_the_size_of_its_index() -> None:
    fits = "d" * (MAX_KEY_BYTES - len("ProcessEvent"))
    record = {"command_name": "ProcessEvent", "data": fits, "execute_time": 2**40}
    assert encoding.command_record(ScheduledCommand.process_event(fits, 2**40)) == record
    with pytest.raises(SerializationError, match=r"^data: .* together with command_name"):
        encoding.command_record(ScheduledCommand.process_event(fits + "d", 2**40))


def test_plain_records_are_one_json_array() -> None:
    assert encoding.encode_plain_records([{"a": "\u00e9"}]) == '[{"a":"\u00e9"}]'


def test_creation_sends_everything_under_the_id_it_is_given() -> None:
    params = created(workflow(id="", revision=None), "new")
    assert (params["id"], params["name"], params["revision"], params["data"]) == ("new", "first", 42, '{"n":1}')
    sent = [(it["id"], it["position"]) for it in json.loads(params["pointers"])]
    assert sent == [("a", POSITION_GAP), ("b", 2 * POSITION_GAP)]


def test_save_of_an_unchanged_workflow_sends_its_scalars_alone() -> None:
    params = saved(workflow(status=WorkflowStatus.COMPLETE))
    assert (params["workflow_id"], params["status"]) == ("w", "Complete")
    assert (params["data"], params["pointers"], params["removed"], params["kept"]) == (None, "[]", [], [])
    assert (params["expected_revision"], type(params["expected_revision"]), params["new_revision"]) == (41, int, 42)
    assert (params["subscriptions"], "id" in params) == ("[]", False)


def test_save_sends_what_has_changed() -> None:
    instance = workflow(data=[])
    instance.execution_pointers = [*instance.execution_pointers[1:], ExecutionPointer(2, id="c")]
    params = saved(instance, subscription(), subscription(id="t"))
    assert (params["data"], params["removed"], params["kept"]) == ("[]", ["a"], [])
    assert [(it["id"], it["position"]) for it in json.loads(params["pointers"])] == [("c", 6 + POSITION_GAP)]
    assert [it["id"] for it in json.loads(params["subscriptions"])] == ["s", "t"]


@pytest.mark.parametrize("revision", [None, 41])
def test_save_of_an_untracked_workflow_is_complete_and_names_what_to_keep(revision: int | None) -> None:
    params = saved(workflow(revision=revision))
    assert (params["data"], params["removed"], params["kept"]) == ('{"n":1}', [], ["a", "b"])
    assert [it["id"] for it in json.loads(params["pointers"])] == ["a", "b"]
    assert params["expected_revision"] == revision


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"data": "x" * 20}, "data"),
        ({"execution_pointers": [ExecutionPointer(0, outcome="x" * 20)]}, "execution_pointers[0].outcome"),
    ],
)
def test_json_value_beyond_the_limit_is_refused(changed: dict[str, Any], path: str) -> None:
    instance = workflow(**changed)
    for encode in (created, saved):
        encode(instance, limit=22)
        with pytest.raises(SerializationError, match="more than the limit of 21") as caught:
            encode(instance, limit=21)
        assert caught.value.path == path


@pytest.mark.parametrize("where", ["description", "data", "pointers", "subscriptions"])
def test_values_too_large_for_one_call_are_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"description": {"description": "x" * 2000}, "data": {"data": "x" * 2000}}
    step, waiting = ExecutionPointer(0, id="a", event_key="x" * 2000), subscription(event_key="x" * 2000)
    instance = workflow(**changed.get(where, {}), **({"execution_pointers": [step]} if where == "pointers" else {}))
    monkeypatch.setattr(json_values, "MAX_CALL_BYTES", 2000)
    assert saved(workflow(), subscription())["data"] is None
    with pytest.raises(SerializationError, match=r"^execution_pointers: the values of this call take"):
        saved(instance, waiting if where == "subscriptions" else subscription())
