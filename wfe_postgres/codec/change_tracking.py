"""What was loaded or saved last, so that a save sends what has changed and nothing else.

What the store holds under a revision never changes, so the knowledge of it hangs on the revision that an instance
carries. A pickle, or an instance made by hand, has a plain number there and is saved complete.
"""

import marshal
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, compress, count, repeat
from operator import attrgetter, lt, ne
from typing import Any, NamedTuple, NoReturn, Self

from wfe_postgres.codec.fields import (
    POINTER_FIELDS,
    STATE_FIELDS,
    WORKFLOW_FIELDS,
    json_and_text_fields,
    optional_json_fields,
)
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import JSON_NULL, ExecutionPointer, WorkflowInstance

POSITION_GAP = 2**20
"""The distance of neighbours in the stored order."""

_MAX_POSITION = 2**62 - 1
"""The sequence that numbers the pointers of a Rust host begins after it, so that what it adds comes last."""
_MARSHAL_FORMAT = 2  # the last one without references: equal values give equal bytes

MAX_WORKFLOW_BYTES = 512 * 1024 * 1024
"""How large a save may make a workflow. Version 0.1.0 loads the pointers as one text, which has to stay below 1 GiB,
also if each character is escaped."""

Fingerprint = object
"""Equal for two values only if they would be stored alike."""

PointerState = tuple[int, tuple[Any, ...], Fingerprint]
"""Of one pointer: its position, its numbers, times and flags, the fingerprint of its JSON fields and texts."""

JsonNulls = frozenset[str]
"""Of one pointer: the optional JSON fields in which the store holds JSON null; in the others `None` is SQL NULL."""


class Snapshot(NamedTuple):
    """The data and the pointers, by id, that the store holds under a revision."""

    workflow_id: str
    row: tuple[Any, ...]
    """The scalar fields of the workflow that a host does not change."""
    data: Fingerprint
    pointers: Mapping[str, PointerState]
    json_nulls: Mapping[str, JsonNulls]
    """Of the pointers, by id, that have such fields."""
    size: int
    """In bytes: what the last load has read, and about what was saved since."""


class TrackedRevision(int):
    """A revision that knows what the store holds under it; to everybody else an `int`."""

    snapshot: Snapshot

    def __new__(cls, number: int, snapshot: Snapshot) -> Self:
        revision = super().__new__(cls, number)
        revision.snapshot = snapshot
        return revision

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


class Changes(NamedTuple):
    """What a save has to send, and what the store holds after it."""

    row: bool
    data: bool
    pointers: list[tuple[int, int]]
    """Index and position of each pointer that is new or not as it was."""
    removed: list[str]
    after: Snapshot
    is_complete: bool
    """Nothing was known of what the store holds."""


def new_revision() -> int:
    """A revision that was never used and never will be: 63 random bits."""
    return secrets.randbits(63)


def renewed(revision: int, number: int) -> int:
    """The revision of this number, under which the store holds what it held under the other one."""
    return TrackedRevision(number, revision.snapshot) if isinstance(revision, TrackedRevision) else number


_id = attrgetter("id")
_row = attrgetter(*(it.name for it in WORKFLOW_FIELDS if it.validate and it not in STATE_FIELDS))
_VALUES = json_and_text_fields(POINTER_FIELDS)
_values = attrgetter(*(it.name for it in _VALUES))
_scalars = attrgetter(*(it.name for it in POINTER_FIELDS if it.validate and it.name != "id" and it not in _VALUES))
_OPTIONAL_JSON = tuple(field.name for field in optional_json_fields(POINTER_FIELDS))
_optional_json_values = attrgetter(*_OPTIONAL_JSON)
_NONE: JsonNulls = frozenset()


def snapshot_of(instance: WorkflowInstance) -> Snapshot | None:
    """What the store held under the instance's revision, if that is known."""
    revision = instance.revision
    known = isinstance(revision, TrackedRevision) and revision.snapshot.workflow_id == instance.id
    return revision.snapshot if known else None  # type: ignore[union-attr]


def track_loaded(
    instance: WorkflowInstance, positions: Sequence[int], json_nulls: Mapping[str, JsonNulls], size: int
) -> None:
    """Give a freshly loaded instance, whose pointers stand at these positions, its tracked revision."""
    pointers = dict(zip(map(_id, instance.execution_pointers), _states(instance, positions), strict=True))
    snapshot = Snapshot(instance.id, _row(instance), fingerprint(instance.data), pointers, json_nulls, size)
    instance.revision = TrackedRevision(instance.revision or 0, snapshot)


def compare(instance: WorkflowInstance, id: str, before: Snapshot | None) -> Changes:
    """What has changed since `before`; everything, if that is unknown. `id`: the one the instance is stored under.

    SerializationError: two pointers have one id, or the workflow grows beyond `MAX_WORKFLOW_BYTES`.
    """
    known = before.pointers if before else {}
    ids = list(map(_id, instance.execution_pointers))
    if not all(map(isinstance, ids, repeat(str))):
        _refuse_ids(ids)
    states_before = list(map(known.get, ids))
    positions = assign_positions([state and state[0] for state in states_before])
    states = _states(instance, positions)
    after = dict(zip(ids, states, strict=True))
    if len(after) < len(ids):
        _refuse_ids(ids)
    changed = list(compress(count(), map(ne, states_before, states)))
    known_nulls = before.json_nulls if before else {}
    nulls = {id: names for id, names in known_nulls.items() if id in after}
    for index in changed:
        after[ids[index]] = states[index][0], _in_utc(states[index][1]), states[index][2]
        if names := _json_nulls(instance.execution_pointers[index], nulls.pop(ids[index], _NONE)):
            nulls[ids[index]] = names
    row, data = _in_utc(_row(instance)), fingerprint(instance.data)
    removed = [] if after.keys() >= known.keys() else [it for it in known if it not in after]
    replaced = chain(map(states_before.__getitem__, changed), map(known.get, removed))
    size = _size_after(before, replaced, map(states.__getitem__, changed), data)
    return Changes(
        row=before is None or before.row != row,
        data=before is None or before.data != data,
        pointers=list(zip(changed, map(positions.__getitem__, changed), strict=True)),
        removed=removed,
        after=Snapshot(id, row, data, after, nulls, size),
        is_complete=before is None,
    )


def fingerprint(value: Any) -> Fingerprint:
    """Equal for two values only if they would be stored alike.

    Unlike ==, marshal tells 1 from True and 1.0; unlike a JSON encoder, None from NaN and a key 1 from "1". What it
    does not know (an OrderedDict, a UUID) equals nothing: it is sent, or refused, anew each time.
    """
    try:
        return marshal.dumps(value, _MARSHAL_FORMAT)
    except ValueError:
        return object()


def assign_positions(stored: Sequence[int | None]) -> list[int]:
    """Positions that rise along the list. `None`: not stored yet.

    Stored ones are kept where pointers were only removed, or added at the end; otherwise all are numbered anew. So they
    are when some are added after those of a Rust host.
    """
    kept = [position for position in stored if position is not None]
    added = len(stored) - len(kept)
    last = (kept[-1] if kept else 0) + POSITION_GAP * added
    if stored[: len(kept)] == kept and all(map(lt, kept, kept[1:])) and (not added or last <= _MAX_POSITION):
        return [*kept, *range(last - POSITION_GAP * (added - 1), last + 1, POSITION_GAP)]
    return list(range(POSITION_GAP, POSITION_GAP * (len(stored) + 1), POSITION_GAP))


def _states(instance: WorkflowInstance, positions: Sequence[int]) -> list[PointerState]:
    pointers = instance.execution_pointers
    values = list(map(_values, pointers))
    fingerprints: list[Fingerprint]
    try:
        fingerprints = list(map(marshal.dumps, values, repeat(_MARSHAL_FORMAT)))
    except ValueError:
        fingerprints = list(map(fingerprint, values))
    return list(zip(positions, map(_scalars, pointers), fingerprints, strict=True))


def _size_after(
    before: Snapshot | None, replaced: Iterable[PointerState | None], changed: Iterable[PointerState], data: Fingerprint
) -> int:
    """About the size of the workflow after a save; without values of an unknown type, which each save sends anew.

    SerializationError: it has grown, and is too large to be read back.
    """
    size = stored = before.size if before else 0
    for sign, states, value in ((-1, replaced, before and before.data), (1, changed, data)):
        values = (value, *(state[2] for state in states if state))
        size += sign * sum([len(it) for it in values if isinstance(it, bytes)])
    if size > MAX_WORKFLOW_BYTES and size > stored:
        raise SerializationError("execution_pointers", f"{size} bytes with data, of {MAX_WORKFLOW_BYTES} to read back")
    return size


def _json_nulls(pointer: ExecutionPointer, known: JsonNulls) -> JsonNulls:
    """Where JSON null is to be stored: where it was asked for, or stands and was not touched; and an event that was
    published without data is told from none by it."""
    if pointer.event_published and pointer.event_data is None:
        known |= {"event_data"}
    values = _optional_json_values(pointer)
    if not known and JSON_NULL not in values:
        return _NONE
    named = zip(_OPTIONAL_JSON, values, strict=True)
    return frozenset(name for name, value in named if value is JSON_NULL or (value is None and name in known))


def _in_utc(values: tuple[Any, ...]) -> tuple[Any, ...]:
    # Within one timezone == is blind to `fold`: the two 1:30 of the night when the clocks go back would be equal.
    elsewhere = [it for it in values if isinstance(it, datetime) and it.tzinfo is not UTC]
    return tuple(map(_to_utc, values)) if elsewhere else values


def _to_utc(value: Any) -> Any:
    try:
        return value.astimezone(UTC) if isinstance(value, datetime) else value
    except OverflowError:
        return value  # refused when it is encoded


def _refuse_ids(ids: Sequence[object]) -> NoReturn:
    index, id = next((index, it) for index, it in enumerate(ids) if not isinstance(it, str) or it in ids[:index])
    reason = "two pointers have the same id" if isinstance(id, str) else "text is needed"
    raise SerializationError(f"execution_pointers[{index}].id", reason)
