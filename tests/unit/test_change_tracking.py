"""A save sends what has changed since the load or the last save, and nothing else."""

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from wfe_postgres import ExecutionPointer, PointerStatus, SerializationError, WorkflowInstance
from wfe_postgres.codec.change_tracking import (
    POSITION_GAP,
    Snapshot,
    TrackedRevision,
    compare,
    fingerprint,
    new_revision,
    snapshot_of,
    track_loaded,
)

TIMESTAMP = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = TIMESTAMP + timedelta(microseconds=1)
LAST = 2**63 - 1

# For each field of a pointer: what `pointer()` has there, and something else.
OTHER_VALUES: dict[str, tuple[Any, Any]] = {
    "step_id": (1, 2),
    "active": (True, False),
    "status": (PointerStatus.SLEEPING, PointerStatus.COMPLETE),
    "sleep_until": (TIMESTAMP, LATER),
    "persistence_data": ({"count": 1}, {"count": True}),
    "start_time": (TIMESTAMP, None),
    "end_time": (None, TIMESTAMP),
    "event_name": ("paid", "shipped"),
    "event_key": ("1", None),
    "event_published": (False, True),
    "event_data": ([1, 2], [2, 1]),
    "step_name": ("wait", ""),
    "retry_count": (0, 1),
    "children": (["a"], ["a", "b"]),
    "context_item": (None, 0),
    "predecessor_id": (None, "p"),
    "outcome": (1, 1.0),
    "scope": (["a", "b"], ["b", "a"]),
    "extension_attributes": ({}, {"a": None}),
}


class Autumn(tzinfo):
    """A timezone in the night when the clocks go back: `fold` says which of two equal times it is."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        """One hour less the second time."""
        return timedelta(hours=2 - (when.fold if when else 0))

    def dst(self, _: datetime | None) -> timedelta:
        """Not needed."""
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        """Not needed."""
        return "autumn"


def pointer(id: str) -> ExecutionPointer:
    """A pointer of the first values, none of them shared with another pointer."""
    return ExecutionPointer(id=id, **copy.deepcopy({name: first for name, (first, _) in OTHER_VALUES.items()}))


def loaded(*ids: str, data: Any = None, positions: list[int] | None = None) -> WorkflowInstance:
    """A workflow as a load gives it, with pointers of these ids."""
    instance = WorkflowInstance("shop", 1, data, id="w", execution_pointers=[pointer(id) for id in ids])
    instance.revision = 41
    track_loaded(instance, positions or [POSITION_GAP * (place + 1) for place in range(len(ids))], {}, 0)
    return instance


def sent(instance: WorkflowInstance) -> tuple[bool, list[str], list[str]]:
    """What a save would send: whether the data, which pointers by id, and which ids it removes."""
    changes = compare(instance, instance.id, snapshot_of(instance))
    assert not changes.is_complete
    return changes.data, [instance.execution_pointers[index].id for index, _ in changes.pointers], changes.removed


def test_values_of_the_changes_cover_every_field_of_a_pointer() -> None:
    assert OTHER_VALUES.keys() == {field.name for field in fields(ExecutionPointer)} - {"id"}


def test_nothing_is_sent_after_a_load() -> None:
    instance = loaded("a", "b", "c", data={"n": 1})
    assert sent(instance) == (False, [], [])
    assert sent(replace(instance, execution_pointers=[pointer("a"), pointer("b"), pointer("c")])) == (False, [], [])


@settings(deadline=None, max_examples=10)
@given(some.data(), some.integers(1, 4), some.lists(some.integers(1, 10**6), min_size=4, max_size=4, unique=True))
@pytest.mark.parametrize("name", OTHER_VALUES)
def test_one_changed_field_sends_that_pointer_alone(
    name: str, draw: some.DataObject, count: int, positions: list[int]
) -> None:
    index = draw.draw(some.integers(0, count - 1))
    stored = sorted(positions)[:count]
    instance = loaded(*"abcd"[:count], positions=stored)
    setattr(instance.execution_pointers[index], name, OTHER_VALUES[name][1])
    changes = compare(instance, "w", snapshot_of(instance))
    assert (changes.data, changes.pointers, changes.removed) == (False, [(index, stored[index])], [])


def test_change_within_a_json_value_sends_that_pointer() -> None:
    instance = loaded("a", "b", "c")
    instance.execution_pointers[1].persistence_data["count"] += 1
    instance.execution_pointers[2].children.append("x")
    assert sent(instance) == (False, ["b", "c"], [])


@pytest.mark.parametrize("other", [True, 1.0, "1", None, [1], {"n": 1}])
def test_changed_data_is_sent_without_pointers(other: Any) -> None:
    instance = loaded("a", data=1)
    instance.data = other
    assert sent(instance) == (True, [], [])


def test_change_within_the_data_sends_it() -> None:
    instance = loaded("a", data={"lines": [{"n": 1}]})
    instance.data["lines"][0]["n"] = 2
    assert sent(instance) == (True, [], [])


def test_added_pointer_is_sent_alone_after_the_last_position() -> None:
    instance = loaded("a", "b", positions=[3, 8])
    instance.execution_pointers.append(pointer("c"))
    changes = compare(instance, "w", snapshot_of(instance))
    assert (changes.pointers, changes.removed) == ([(2, 8 + POSITION_GAP)], [])


def test_removed_pointer_is_named_and_no_other_is_sent() -> None:
    instance = loaded("a", "b", "c")
    del instance.execution_pointers[1]
    assert sent(instance) == (False, [], ["b"])


def test_pointer_with_another_id_is_removed_and_added() -> None:
    instance = loaded("a", "b")
    instance.execution_pointers[1].id = "new"
    assert sent(instance) == (False, ["new"], ["b"])


def test_reordered_pointers_are_numbered_anew() -> None:
    instance = loaded("a", "b", "c", positions=[5, 6, 7])
    instance.execution_pointers.reverse()
    changes = compare(instance, "w", snapshot_of(instance))
    assert changes.pointers == [(0, POSITION_GAP), (1, 2 * POSITION_GAP), (2, 3 * POSITION_GAP)]
    assert changes.removed == []


def test_everything_is_sent_where_nothing_is_known() -> None:
    instance = replace(loaded("a", "b"), revision=41)
    changes = compare(instance, "other", snapshot_of(instance))
    assert (changes.is_complete, changes.data, changes.removed) == (True, True, [])
    assert changes.pointers == [(0, POSITION_GAP), (1, 2 * POSITION_GAP)]
    assert changes.after.workflow_id == "other"


def test_nothing_is_sent_after_a_save() -> None:
    instance = loaded("a", "b", "c", data={"n": 1})
    del instance.execution_pointers[0]
    instance.execution_pointers.append(pointer("d"))
    instance.execution_pointers[0].outcome = "done"
    instance.data = {"n": 2}
    assert sent(instance) == (True, ["b", "d"], ["a"])
    instance.revision = TrackedRevision(42, compare(instance, "w", snapshot_of(instance)).after)
    assert sent(instance) == (False, [], [])
    instance.execution_pointers[0].outcome = 1
    assert sent(instance) == (False, ["b"], [])


def test_second_of_two_equal_local_times_is_another_timestamp() -> None:
    instance = loaded("a", "b")
    local = datetime(2030, 10, 27, 2, 30, tzinfo=Autumn())
    instance.execution_pointers[1].sleep_until = local
    instance.revision = TrackedRevision(42, compare(instance, "w", snapshot_of(instance)).after)
    instance.execution_pointers[1].sleep_until = local.replace(fold=1)
    assert sent(instance) == (False, ["b"], [])


def test_same_timestamp_in_another_timezone_is_no_change() -> None:
    instance = loaded("a")
    instance.execution_pointers[0].sleep_until = TIMESTAMP.astimezone(timezone(timedelta(hours=5)))
    assert sent(instance) == (False, [], [])


def test_timestamp_outside_the_years_of_utc_is_sent_so_that_encoding_refuses_it() -> None:
    instance = loaded("a")
    instance.execution_pointers[0].sleep_until = datetime.min.replace(tzinfo=Autumn())
    assert sent(instance) == (False, ["a"], [])


def test_value_unknown_to_marshal_sends_its_pointer_each_time_and_no_other() -> None:
    instance = loaded("a", "b")
    instance.execution_pointers[1].outcome = OrderedDict(a=1)
    assert sent(instance) == (False, ["b"], [])
    instance.revision = TrackedRevision(42, compare(instance, "w", snapshot_of(instance)).after)
    assert sent(instance) == (False, ["b"], [])


@pytest.mark.parametrize("id", [5, None, b"a", ["a"]])
def test_id_that_is_no_text_is_refused_with_its_path(id: Any) -> None:
    instance = loaded("a", "b")
    instance.execution_pointers[1].id = id
    with pytest.raises(SerializationError, match=r"^execution_pointers\[1\]\.id: text is needed$"):
        compare(instance, "w", snapshot_of(instance))


def test_second_pointer_of_one_id_is_refused_with_its_path() -> None:
    instance = loaded("a", "b", "c")
    instance.execution_pointers[2].id = "a"
    with pytest.raises(SerializationError, match=r"^execution_pointers\[2\]\.id: two pointers have the same id$"):
        compare(instance, "w", snapshot_of(instance))


@pytest.mark.parametrize("value", [1, "a", 1.5, None, [1, {"a": 2}], (1,)])
def test_fingerprints_of_equal_values_are_equal(value: Any) -> None:
    assert fingerprint(value) == fingerprint(copy.deepcopy(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0, False), (0.0, -0.0), (None, float("nan")), ({"1": 2}, {1: 2}), ([1], (1,)), ("a", b"a")],
)
def test_fingerprints_of_values_stored_otherwise_differ(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint({"a": [one]}) != fingerprint({"a": [other]})


def test_fingerprint_does_not_tell_one_object_twice_from_two_equal_ones() -> None:
    shared = ["a b"]
    assert fingerprint([shared, shared]) == fingerprint([["a b"], [" ".join("ab")]])


@settings(deadline=None, max_examples=20)
@given(some.integers(0, LAST))
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, replace])
def test_tracked_revision_survives_a_copy_of_its_instance(
    copied: Callable[[WorkflowInstance], WorkflowInstance], number: int
) -> None:
    snapshot = Snapshot("w", (), fingerprint({}), {}, {}, 0)
    duplicate = copied(WorkflowInstance("shop", 1, id="w", revision=TrackedRevision(number, snapshot)))
    assert duplicate.revision == number
    assert snapshot_of(duplicate) is snapshot


def test_changes_of_a_deep_copy_are_its_own() -> None:
    instance = loaded("a", "b")
    duplicate = copy.deepcopy(instance)
    duplicate.execution_pointers[0].persistence_data["count"] = 2
    assert (sent(instance), sent(duplicate)) == ((False, [], []), (False, ["a"], []))


@settings(deadline=None, max_examples=20)
@given(some.integers(0, LAST), some.integers(0, pickle.HIGHEST_PROTOCOL))
def test_tracked_revision_pickles_to_a_plain_number(number: int, protocol: int) -> None:
    instance = WorkflowInstance("shop", 1, id="w", revision=TrackedRevision(number, Snapshot("w", (), b"", {}, {}, 0)))
    assert snapshot_of(instance) is not None
    unpickled = pickle.loads(pickle.dumps(instance, protocol))
    assert (type(unpickled.revision), unpickled.revision) == (int, number)
    assert snapshot_of(unpickled) is None


@pytest.mark.parametrize("revision", [None, 41])
def test_snapshot_of_an_untracked_revision_is_unknown(revision: int | None) -> None:
    assert snapshot_of(replace(loaded("a"), revision=revision)) is None


def test_snapshot_of_another_workflow_is_unknown() -> None:
    assert snapshot_of(replace(loaded("a"), id="other")) is None


def test_load_without_a_revision_is_tracked_as_zero() -> None:
    instance = WorkflowInstance("shop", 1)
    track_loaded(instance, [], {}, 0)
    assert (type(instance.revision), instance.revision) == (TrackedRevision, 0)


def test_new_revisions_are_all_different_and_fit_a_bigint() -> None:
    revisions = [new_revision() for _ in range(1000)]
    assert len({*revisions}) == 1000
    assert min(revisions) >= 0
    assert 2**60 < max(revisions) <= LAST
