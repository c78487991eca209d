"""What was loaded or saved last, so that a save sends what has changed and nothing else.

A snapshot belongs to one object: it is kept beside it, by identity, and goes when the object goes. A copy, a
pickle or an instance made by hand has none, and is saved complete.
"""

import marshal
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import compress, count, repeat
from operator import attrgetter, lt, ne
from typing import Any, NoReturn

from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import WorkflowInstance

STRIDE = 2**20
"""The distance of neighbours in the stored order, so that a pointer can be put between two others."""

_LAST_POSITION = 2**63 - 1
_PLAIN_VALUES = 2  # marshal's last format without references: equal values give equal bytes

Fingerprint = object
"""Equal for two values only if they would be stored alike."""

State = tuple[int, tuple[Any, ...], Fingerprint]
"""Of one pointer: its position, its scalar fields, the fingerprint of its JSON fields."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an instance that the store is known to hold."""

    workflow_id: str
    revision: int
    data: Fingerprint
    pointers: Mapping[str, State]
    """By pointer id."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a save has to send."""

    data: bool
    pointers: list[tuple[int, int]]
    """Index and position of each pointer that is new or not as it was."""
    removed: list[str]
    after: Mapping[str, State]
    """What the snapshot's pointers will be after the save."""
    data_after: Fingerprint


_kept: dict[int, tuple[weakref.ref[WorkflowInstance], Snapshot]] = {}

_ids = attrgetter("id")
_scalars = attrgetter(
    "step_id",
    "active",
    "status",
    "sleep_until",
    "start_time",
    "end_time",
    "event_name",
    "event_key",
    "event_published",
    "step_name",
    "retry_count",
    "predecessor_id",
)
_payloads = attrgetter(
    "persistence_data",
    "event_data",
    "children",
    "context_item",
    "outcome",
    "scope",
    "extension_attributes",
)


def remember(instance: WorkflowInstance, snapshot: Snapshot) -> None:
    """Keep the snapshot for as long as the object lives."""
    place = id(instance)
    _kept[place] = weakref.ref(instance, partial(_kept.pop, place)), snapshot


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
    pointers = dict(zip(map(_ids, instance.execution_pointers), _states(instance, positions), strict=True))
    remember(instance, Snapshot(instance.id, instance.revision, exact(instance.data), pointers))


def compare(instance: WorkflowInstance, before: Snapshot | None) -> Changes:
    """What has changed since `before`; everything, if there is none.

    Raises `SerializationError` when two pointers have one id.
    """
    known = before.pointers if before else {}
    ids = list(map(_ids, instance.execution_pointers))
    if not all(map(isinstance, ids, repeat(str))):
        _refuse_ids(ids)
    states_before = list(map(known.get, ids))
    positions = arrange([state and state[0] for state in states_before])
    states = _states(instance, positions)
    after = dict(zip(ids, states, strict=True))
    if len(after) < len(ids):
        _refuse_duplicates(ids)
    changed = list(compress(count(), map(ne, states_before, states)))
    for index in changed:
        after[ids[index]] = _in_utc(states[index])
    data = exact(instance.data)
    return Changes(
        data=before is None or before.data != data,
        pointers=[(index, positions[index]) for index in changed],
        removed=[] if after.keys() >= known.keys() else [it for it in known if it not in after],
        after=after,
        data_after=data,
    )


def exact(value: Any) -> Fingerprint:
    """Equal for two values only if they would be stored alike.

    Unlike ==, marshal tells 1 from True and 1.0; unlike a JSON encoder, None from NaN and a key 1 from "1". What it
    does not know (an OrderedDict, a UUID) equals nothing: it is sent, or refused, anew each time.
    """
    try:
        return marshal.dumps(value, _PLAIN_VALUES)
    except ValueError:
        return object()


def _states(instance: WorkflowInstance, positions: Sequence[int]) -> list[State]:
    pointers = instance.execution_pointers
    payloads = list(map(_payloads, pointers))
    exactly: list[Fingerprint]
    try:
        exactly = list(map(marshal.dumps, payloads, repeat(_PLAIN_VALUES)))
    except ValueError:
        exactly = list(map(exact, payloads))
    return list(zip(positions, map(_scalars, pointers), exactly, strict=True))


def _in_utc(state: State) -> State:
    # Within one timezone == is blind to `fold`: the two 1:30 of the night when the clocks go back would be equal.
    position, scalars, exactly = state
    return position, tuple(map(_to_utc, scalars)), exactly


def _to_utc(value: Any) -> Any:
    try:
        return value.astimezone(UTC) if isinstance(value, datetime) else value
    except OverflowError:
        return value  # refused when it is encoded


def _refuse_ids(ids: Sequence[object]) -> NoReturn:
    index = next(index for index, it in enumerate(ids) if not isinstance(it, str))
    raise SerializationError(f"execution_pointers[{index}].id", "text is needed")


def _refuse_duplicates(ids: Sequence[str]) -> NoReturn:
    index = next(index for index, it in enumerate(ids) if it in ids[:index])
    raise SerializationError(f"execution_pointers[{index}].id", "two pointers have the same id")


def arrange(stored: Sequence[int | None]) -> list[int]:
    """Positions that rise along the list, keeping as many of the stored ones as can be (`None`: not stored)."""
    known = [position for position in stored if position is not None]
    appended = len(stored) - len(known)
    at_the_end = stored[len(known) :] == [None] * appended
    if at_the_end and all(map(lt, known, known[1:])):
        places = _between(known[-1] if known else 0, None, appended)
    else:
        known, places = [], _rearrange(stored)
    return [*known, *places] if places is not None else [STRIDE * (index + 1) for index in range(len(stored))]


def _rearrange(stored: Sequence[int | None]) -> list[int] | None:
    """`arrange`, for a list that was not just added to; `None`: there is no room between two that stay."""
    positions = [0] * len(stored)
    low, start = 0, 0
    for index in [*_longest_rise(stored), len(stored)]:
        high = stored[index] if index < len(stored) else None
        between = _between(low, high, index - start)
        if between is None:
            return None
        positions[start:index] = between
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
        at = bisect_left(ends, value)
        ends[at : at + 1] = [value]
        last[at : at + 1] = [index]
        if at:
            before[index] = last[at - 1]
    rise: list[int] = []
    while last and (not rise or rise[-1] in before):
        rise.append(before[rise[-1]] if rise else last[-1])
    return rise[::-1]
