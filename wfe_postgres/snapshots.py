"""What was loaded or saved last, so that a save sends what has changed and nothing else.

A snapshot belongs to one object: it is kept beside it, by identity, and goes when the object goes. A copy, a
pickle or an instance made by hand has none, and is saved complete.
"""

import marshal
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import ExecutionPointer, WorkflowInstance

STRIDE = 2**20
"""The distance of neighbours in the stored order, so that a pointer can be put between two others."""

_LAST_POSITION = 2**63 - 1
_PLAIN_VALUES = 2  # marshal's last format without references: equal values give equal bytes

Fingerprint = object
"""Equal for two states of a field or pointer only if what would be stored is the same."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an instance that the store is known to hold."""

    workflow_id: str
    revision: int
    data: Fingerprint
    pointers: Mapping[str, tuple[int, Fingerprint]]
    """Position and fingerprint, by pointer id."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a save has to send."""

    data: bool
    pointers: list[tuple[int, int]]
    """Index and position of each pointer that is new or not as it was."""
    removed: list[str]
    after: Mapping[str, tuple[int, Fingerprint]]
    """What the snapshot's pointers will be after the save."""
    data_after: Fingerprint


_kept: dict[int, tuple[weakref.ref[WorkflowInstance], Snapshot]] = {}


def remember(instance: WorkflowInstance, snapshot: Snapshot) -> None:
    """Keep the snapshot for as long as the object lives."""
    place = id(instance)
    _kept[place] = weakref.ref(instance, lambda _: _kept.pop(place, None)), snapshot


def recall(instance: WorkflowInstance) -> Snapshot | None:
    """The object's snapshot, if it has one and is still the workflow and the revision that it was taken of."""
    owner, snapshot = _kept.get(id(instance), (None, None))
    if owner is None or snapshot is None or owner() is not instance:
        return None
    same = snapshot.workflow_id == instance.id and snapshot.revision == instance.revision
    return snapshot if same else None


def loaded(instance: WorkflowInstance, positions: Sequence[int]) -> None:
    """Remember a freshly loaded instance whose pointers stand at these positions."""
    assert instance.revision is not None
    pointers = {
        pointer.id: (position, fingerprint(pointer))
        for pointer, position in zip(instance.execution_pointers, positions, strict=True)
    }
    remember(instance, Snapshot(instance.id, instance.revision, data_fingerprint(instance), pointers))


def compare(instance: WorkflowInstance, before: Snapshot | None) -> Changes:
    """What has changed since `before`; everything, if there is none.

    Raises `SerializationError` when two pointers have one id.
    """
    known = before.pointers if before else {}
    positions = arrange([known[it.id][0] if it.id in known else None for it in instance.execution_pointers])
    after: dict[str, tuple[int, Fingerprint]] = {}
    changed: list[tuple[int, int]] = []
    for index, (pointer, position) in enumerate(zip(instance.execution_pointers, positions, strict=True)):
        state = after[pointer.id] = (position, fingerprint(pointer))
        if known.get(pointer.id) != state:
            changed.append((index, position))
        if len(after) <= index:
            raise SerializationError(f"execution_pointers[{index}].id", "two pointers have the same id")
    data = data_fingerprint(instance)
    return Changes(
        data=before is None or before.data != data,
        pointers=changed,
        removed=[id for id in known if id not in after],
        after=after,
        data_after=data,
    )


def data_fingerprint(instance: WorkflowInstance) -> Fingerprint:
    """Of the workflow's own data."""
    return _exact(instance.data)


def fingerprint(pointer: ExecutionPointer) -> Fingerprint:
    """Of all fields of a pointer but its id."""
    return (
        pointer.step_id,
        pointer.active,
        pointer.status,
        pointer.sleep_until,
        pointer.start_time,
        pointer.end_time,
        pointer.event_name,
        pointer.event_key,
        pointer.event_published,
        pointer.step_name,
        pointer.retry_count,
        pointer.predecessor_id,
        _exact(
            (
                pointer.persistence_data,
                pointer.event_data,
                pointer.children,
                pointer.context_item,
                pointer.outcome,
                pointer.scope,
                pointer.extension_attributes,
            )
        ),
    )


def _exact(value: Any) -> Fingerprint:
    # Unlike ==, marshal tells 1 from True and 1.0; unlike a JSON encoder, None from NaN and a key 1 from "1".
    # What it does not know (an OrderedDict, a UUID) equals nothing: it is sent, or refused, anew each time.
    try:
        return marshal.dumps(value, _PLAIN_VALUES)
    except ValueError:
        return object()


def arrange(stored: Sequence[int | None]) -> list[int]:
    """Positions that rise along the list, keeping as many of the stored ones as can be (`None`: not stored)."""
    kept = _longest_rise(stored)
    positions = [0] * len(stored)
    low, start = 0, 0
    for index in [*kept, len(stored)]:
        high = stored[index] if index < len(stored) else None
        gap = _between(low, high, index - start)
        if gap is None:
            return [STRIDE * (index + 1) for index in range(len(stored))]
        positions[start:index] = gap
        if high is not None:
            positions[index] = low = high
        start = index + 1
    return positions


def _between(low: int, high: int | None, count: int) -> Sequence[int] | None:
    """So many positions between two others; `None`: there is no room."""
    if high is None:
        room = range(low + STRIDE, low + STRIDE * (count + 1), STRIDE)
        return room if not room or room[-1] <= _LAST_POSITION else None
    step = (high - low) // (count + 1)
    return range(low + step, low + step * count + 1, step) if step else None if count else ()


def _longest_rise(values: Sequence[int | None]) -> list[int]:
    """Indexes of a longest strictly rising part of the values, `None` left out (patience sorting)."""
    ends: list[int] = []
    last: list[int] = []
    before: dict[int, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        at = len(ends) if not ends or value > ends[-1] else bisect_left(ends, value)
        ends[at:] = [value, *ends[at + 1 :]] if at < len(ends) else [value]
        last[at : at + 1] = [index]
        if at:
            before[index] = last[at - 1]
    rise: list[int] = []
    while last and (not rise or rise[-1] in before):
        rise.append(before[rise[-1]] if rise else last[-1])
    return rise[::-1]
