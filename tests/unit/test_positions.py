"""Positions rise along the list of pointers, and as few as possible change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from wfe_postgres.codec.change_tracking import POSITION_GAP, assign_positions

LAST = 2**63 - 1
RUST = 2**62 + 7
"""A position from the sequence, which numbers the pointers that a Rust host inserts."""
LAST_OF_OURS = 2**62 - 1


@settings(deadline=None)
@given(some.lists(some.none() | some.integers(-5, 5) | some.integers(-(2**63), LAST), max_size=8))
def test_assigned_positions_rise_strictly_within_a_bigint(stored: list[int | None]) -> None:
    positions = assign_positions(stored)
    assert len(positions) == len(stored)
    assert positions == sorted(set(positions))
    assert all(-(2**63) <= position <= LAST for position in positions)


@settings(deadline=None)
@given(some.lists(some.integers(-(2**63), 2**61), unique=True, max_size=6).map(sorted), some.integers(0, 5))
def test_appended_pointers_keep_the_stored_positions(kept: list[int], added: int) -> None:
    assert assign_positions([*kept, *[None] * added])[: len(kept)] == kept


@settings(deadline=None)
@given(some.lists(some.integers(-(2**63), LAST), unique=True, min_size=2, max_size=6).map(sorted), some.data())
def test_pointers_out_of_the_stored_order_are_numbered_anew(kept: list[int], draw: some.DataObject) -> None:
    order: list[int | None] = list(kept)
    gap = draw.draw(some.integers(0, len(kept) - 1))
    reordered = [[*order[:gap], None, *order[gap:]], order[::-1], [*order, order[gap]]]
    for stored in reordered:
        assert assign_positions(stored) == [POSITION_GAP * (place + 1) for place in range(len(stored))]


@pytest.mark.parametrize(
    ("stored", "positions"),
    [
        ([], []),
        ([None, None], [POSITION_GAP, 2 * POSITION_GAP]),
        ([7, None, None], [7, 7 + POSITION_GAP, 7 + 2 * POSITION_GAP]),
        ([LAST], [LAST]),
        ([1, LAST_OF_OURS - POSITION_GAP, None], [1, LAST_OF_OURS - POSITION_GAP, LAST_OF_OURS]),
        ([LAST_OF_OURS - POSITION_GAP + 1, None], [POSITION_GAP, 2 * POSITION_GAP]),
        ([1, RUST], [1, RUST]),
        ([RUST, RUST + 1, None], [POSITION_GAP, 2 * POSITION_GAP, 3 * POSITION_GAP]),
        ([0, 0], [POSITION_GAP, 2 * POSITION_GAP]),
    ],
)
def test_positions_are_kept_only_where_they_rise_and_fit_below_the_sequence(
    stored: list[int | None], positions: list[int]
) -> None:
    assert assign_positions(stored) == positions
