"""JSON values are encoded to text that reads back equal, or are refused with the path of the bad value."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from wfe_postgres import JSON_NULL, SerializationError, WorkflowStatus
from wfe_postgres.codec import json_values
from wfe_postgres.codec.json_values import (
    MAX_DIGITS,
    check_call_size,
    check_size,
    decode,
    encode,
    encode_members,
    encode_record,
)

LARGE = 10**9

texts = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"))
scalars = some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | texts
json_like: some.SearchStrategy[Any] = some.recursive(
    scalars, lambda inner: some.lists(inner, max_size=4) | some.dictionaries(texts, inner, max_size=4), max_leaves=12
)
identifiers = some.from_regex("[a-z_]{1,8}", fullmatch=True)


def refusal(value: Any) -> tuple[str, str]:
    """The path and the reason with which the value is refused."""
    with pytest.raises(SerializationError) as caught:
        encode(value, "data")
    return caught.value.path, caught.value.reason


def nested(depth: int) -> list[Any]:
    """A list in a list, and so on."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@settings(deadline=None)
@given(json_like)
@example(1e16)
@example({"e+": 1e300, "\\u0000": -1e16, "\u00e9": -0.0})
@example([2**53 + 1, True, 1, 1.0, 5e-324])
def test_encoded_value_reads_back_equal_and_of_the_same_types(value: Any) -> None:
    assert repr(decode(encode(value, "data"))) == repr(value)


@settings(deadline=None)
@given(some.floats(min_value=1e16, allow_infinity=False), some.booleans())
def test_large_float_is_written_with_a_decimal_point_and_no_exponent(number: float, negative: bool) -> None:
    """Without the point jsonb would give an integer back."""
    number = -number if negative else number
    encoded = encode(number, "data")
    assert encoded.endswith(".0")
    assert encoded[:-2].lstrip("-").isdigit()
    assert decode(encoded) == number


def test_encoded_text_is_compact_and_not_escaped() -> None:
    assert encode({"a": [1, None], "\u00e9": "\U0001f600"}, "data") == '{"a":[1,null],"\u00e9":"\U0001f600"}'


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        ((1, (2,)), [1, [2]]),
        ({"a": (1e23,)}, {"a": [1e23]}),
        (WorkflowStatus.COMPLETE, "Complete"),
        ([WorkflowStatus.COMPLETE, ()], ["Complete", []]),
    ],
)
def test_encoded_subtypes_read_back_as_the_json_types(value: Any, read_back: Any) -> None:
    assert repr(decode(encode(value, "data"))) == repr(read_back)


def test_list_that_occurs_twice_is_no_circle() -> None:
    shared = [1e23]
    assert decode(encode([shared, shared, {"again": shared}], "data")) == [[1e23], [1e23], {"again": [1e23]}]


@pytest.mark.parametrize("sign", [1, -1])
def test_integer_of_the_most_digits_reads_back(sign: int) -> None:
    number = sign * (10**MAX_DIGITS - 1)
    assert decode(encode([number], "data")) == [number]


@pytest.mark.parametrize("number", [10**MAX_DIGITS, -(10**MAX_DIGITS), 10**5000], ids=["plus", "minus", "unreadable"])
def test_integer_of_more_digits_is_refused(number: int) -> None:
    assert refusal({"n": [0, number]}) == ("data.n[1]", f"an integer of more than {MAX_DIGITS} digits")


def test_text_of_many_digits_reads_back() -> None:
    text = "1" * (MAX_DIGITS + 1)
    assert decode(encode([text, "\\u0000", "1e+5"], "data")) == [text, "\\u0000", "1e+5"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "NaN and Infinity are no JSON values"),
        (float("inf"), "NaN and Infinity are no JSON values"),
        (float("-inf"), "NaN and Infinity are no JSON values"),
        ({1}, "JSON has no set"),
        (b"", "JSON has no bytes"),
        (1j, "JSON has no complex"),
        ("\0", "the text contains a NUL character"),
        ("\ud800", "the text contains a surrogate, which is no character"),
        ({1: "a"}, "a mapping key is int, not text"),
        ({None: "a"}, "a mapping key is NoneType, not text"),
        ({True: "a"}, "a mapping key is bool, not text"),
        ({"\0": "a"}, "a mapping key contains a NUL character"),
        ({"\udc00": "a"}, "a mapping key contains a surrogate, which is no character"),
    ],
)
def test_value_that_json_does_not_hold_is_refused_with_its_path(value: Any, reason: str) -> None:
    assert refusal(value) == ("data", reason)
    assert refusal({"order": {"lines": [0, (1, value)]}}) == ("data.order.lines[1][1]", reason)
    assert refusal({"not a name": {'"': value}}) == (r'data["not a name"]["\""]', reason)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_circle_is_refused(wrap: Callable[[Any], Any]) -> None:
    circle: list[Any] = []
    circle.append(wrap(circle))
    path, reason = refusal(circle)
    assert (path[:7], reason) == ("data[0]", "a circular reference")


def test_value_nested_too_deeply_is_refused() -> None:
    assert refusal({"a": nested(100_000)}) == ("data", "nested too deeply to be read back")


@pytest.mark.parametrize(("value", "size"), [("abc", 5), ("\u00e9", 4), ("\U0001f600", 6), ([1e16], 21)])
def test_limit_is_in_bytes_of_the_encoding(value: Any, size: int) -> None:
    assert len(encode(value, "data", size).encode()) == size
    with pytest.raises(SerializationError) as caught:
        encode(value, "data", size - 1)
    assert caught.value.path == "data"
    assert caught.value.reason == f"encodes to {size} bytes, more than the limit of {size - 1}"


def test_size_at_the_limit_passes_and_one_byte_more_is_refused() -> None:
    check_size("abcd", "data", 4)
    with pytest.raises(SerializationError):
        check_size("abcde", "data", 4)


@settings(deadline=None, max_examples=50)
@given(some.dictionaries(identifiers, json_like, max_size=4), some.sampled_from([LARGE, 4000]))
@example({"a": (1,), "b": 1e23}, LARGE)
def test_members_read_back_equal_whether_encoded_at_once_or_one_by_one(values: dict[str, Any], limit: int) -> None:
    at_once = encode_members(values, "pointer.", limit)
    assert decode(f"{{{at_once}}}") == decode(encode(values, "pointer"))
    assert list(decode(f"{{{at_once}}}")) == list(values)


def test_members_have_a_limit_each_and_none_together() -> None:
    values = {"a": "x" * 10, "b": "y" * 10}
    assert decode(f"{{{encode_members(values, 'p.', 12)}}}") == values
    with pytest.raises(SerializationError) as caught:
        encode_members(values | {"c": "z" * 11}, "p.", 12)
    assert caught.value.path == "p.c"


def test_members_are_refused_with_prefix_and_name() -> None:
    with pytest.raises(SerializationError) as caught:
        encode_members({"outcome": 1, "event_data": [float("nan")]}, "execution_pointers[3].", LARGE)
    assert caught.value.path == "execution_pointers[3].event_data[0]"


def test_call_size_counts_the_bytes_of_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_values, "MAX_CALL_BYTES", 10)
    check_call_size("pointers", "12345", None, "\u00e9\u00e9", "", "x")
    with pytest.raises(SerializationError) as caught:
        check_call_size("pointers", "12345", None, "\u00e9\u00e9\u00e9")
    assert caught.value.path == "pointers"
    assert caught.value.reason == "the values of this call take 11 bytes together, of 10"


class Label(str):
    """As Django's `SafeString`."""


class Number(int):
    """As an `IntEnum`'s member."""


def test_subclasses_of_text_and_integers_are_encoded_as_what_they_derive_from() -> None:
    assert encode({"a": [Label("b"), Number(3)]}, "data") == '{"a":["b",3]}'
    assert encode_record({"reference": Label("b"), "version": Number(3), "none": None}) == (
        '{"reference":"b","version":3,"none":null}'
    )


@pytest.mark.parametrize("value", [b"a", {1}, UUID(int=1), Decimal(1), date(2030, 1, 1), JSON_NULL, {"a": JSON_NULL}])
def test_type_that_the_fast_encoder_knows_and_json_does_not_is_refused(value: Any) -> None:
    assert refusal([value])[1].startswith("JSON has no")


@pytest.mark.parametrize("value", [1e16, -1.5e300, [1e16], {"a": -1e22}, ["3e5", 2e17], {"id": "a3e5", "n": 1e17}])
def test_large_float_is_written_without_exponent(value: Any) -> None:
    encoded = encode(value, "data")
    assert "e" not in encoded.replace("3e5", "")
    assert decode(encoded) == value


def test_number_beyond_a_double_is_read_as_infinity() -> None:
    assert decode("[1e400,-1e400]") == [float("inf"), float("-inf")]
