"""A cursor of `find_workflows` leads back to its place, and any other text is a ValueError."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from wfe_postgres.repositories.queries import _cursor_of, _place_of

TIME = "2030-01-02T03:04:05.678901"

texts = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_like: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | texts | some.just(TIME),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def cursor_with(value: Any) -> str:
    """A cursor that holds this JSON value."""
    return _cursor_of(json.dumps(value))


@settings(deadline=None)
@given(some.datetimes(), texts)
def test_cursor_leads_back_to_the_time_and_the_id(naive: datetime, id: str) -> None:
    place = _place_of(cursor_with([naive.isoformat(), id]))
    assert place.keys() == {"before_time", "before_id"}
    assert place["before_id"] == id
    assert place["before_time"].endswith("+00:00")
    assert datetime.fromisoformat(place["before_time"]) == naive.replace(tzinfo=UTC)


@pytest.mark.parametrize("timestamp", ["infinity", "-infinity"])
def test_cursor_of_a_row_without_a_timestamp_leads_back(timestamp: str) -> None:
    assert _place_of(cursor_with([timestamp, "a"])) == {"before_time": timestamp, "before_id": "a"}


@settings(deadline=None)
@given(texts)
def test_cursor_can_stand_in_a_url(id: str) -> None:
    cursor = _cursor_of(json.dumps([TIME, id], ensure_ascii=False))
    assert cursor.rstrip("=").replace("-", "").replace("_", "").isalnum()
    assert cursor.isascii()


@pytest.mark.parametrize("cursor", ["", "x", "xx", "caf\u00e9", "\0", "\ud800", "AAAA", TIME, "None"])
def test_cursor_that_is_no_json_is_a_value_error(cursor: str) -> None:
    with pytest.raises(ValueError, match=r"^the cursor is none that find_workflows gave$"):
        _place_of(cursor)


@pytest.mark.parametrize("text", ["", "[", f'["{TIME}", "a"', "1" * 5000, "[" * 100_000, f'["{TIME}", "\udc80"]'])
def test_cursor_with_unreadable_json_is_a_value_error(text: str) -> None:
    cursor = base64.urlsafe_b64encode(text.encode(errors="surrogateescape")).decode()
    with pytest.raises(ValueError, match=r"^the cursor is none that find_workflows gave$"):
        _place_of(cursor)


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "ab",
        {},
        {"a": 1, "b": 2},
        [],
        [TIME],
        [TIME, "a", "b"],
        [5, "a"],
        [None, "a"],
        [[TIME], "a"],
        ["", "a"],
        ["tomorrow", "a"],
        [TIME + "+00:00", "a"],
        [TIME + "Z", "a"],
        ["10000-01-01T00:00:00", "a"],
        [TIME, 5],
        [TIME, None],
        [TIME, "a\0"],
        [TIME, "\ud800"],
        ["infinity", 5],
    ],
)
def test_cursor_with_another_value_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^the cursor is none that find_workflows gave$") as caught:
        _place_of(cursor_with(value))
    assert caught.value.__context__ is None


@settings(deadline=None)
@given(some.text() | json_like.map(cursor_with))
def test_cursor_of_anything_is_a_place_or_a_value_error(cursor: str) -> None:
    with suppress(ValueError):
        place = _place_of(cursor)
        assert [type(place[name]) for name in ("before_time", "before_id")] == [str, str]
