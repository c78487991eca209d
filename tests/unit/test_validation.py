"""What each validation returns, and with which path it refuses."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from wfe_postgres import PointerStatus, SerializationError, WorkflowStatus
from wfe_postgres.codec import validation

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - it is here to be refused
EAST = timezone(timedelta(hours=5, minutes=30))
TIMESTAMP = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIMIT = validation.MAX_KEY_BYTES

Validate = Callable[[Any, str], Any]


def refusal(validate: Validate, value: Any) -> str:
    """The reason of the refusal, which has to name the path it was given."""
    with pytest.raises(SerializationError) as caught:
        validate(value, "some.path")
    assert caught.value.path == "some.path"
    return caught.value.reason


def workflow_status(value: Any, path: str) -> str:
    """The spelling of a workflow's status."""
    return validation.member(WorkflowStatus, value, path)


@pytest.mark.parametrize("value", ["", "plain", "na\u00efve", "\U0001f600", "\x01\x7f", "\ud7ff\ue000"])
def test_text_that_can_be_stored_is_returned(value: str) -> None:
    assert validation.text(value, "path") == value
    assert validation.unstorable(value) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "text is needed, not NoneType"),
        (5, "text is needed, not int"),
        (b"bytes", "text is needed, not bytes"),
        ("a\0b", "the text contains a NUL character"),
        ("\u00e9\0", "the text contains a NUL character"),
        ("a\ud800", "the text contains a surrogate, which is no character"),
        ("\udfff", "the text contains a surrogate, which is no character"),
    ],
)
@pytest.mark.parametrize("validate", [validation.text, validation.key])
def test_text_that_cannot_be_stored_is_refused(validate: Validate, value: Any, reason: str) -> None:
    assert refusal(validate, value) == reason


@pytest.mark.parametrize("value", ["", "x" * LIMIT, "\u00e9" * (LIMIT // 2), "\U0001f600" * (LIMIT // 4)])
def test_key_of_the_greatest_size_is_returned(value: str) -> None:
    assert validation.key(value, "path") == value


@pytest.mark.parametrize("value", ["x" * (LIMIT + 1), "\u00e9" * (LIMIT // 2) + "x", "\U0001f600" * (LIMIT // 4 + 1)])
def test_key_beyond_the_greatest_size_is_refused(value: str) -> None:
    size = len(value.encode())
    assert refusal(validation.key, value) == f"takes {size} bytes; an index holds {LIMIT}"


def test_keys_of_one_index_share_the_greatest_size() -> None:
    name, key = "n" * (LIMIT - 5), "k" * 5
    assert validation.keys((name, "name"), (key, "key")) == [name, key]
    with pytest.raises(SerializationError) as caught:
        validation.keys((name, "name"), (key + "k", "key"))
    assert caught.value.path == "key"
    assert caught.value.reason == f"takes {LIMIT + 1} bytes together with name; an index holds {LIMIT}"


def test_keys_are_refused_by_the_path_of_the_bad_one() -> None:
    with pytest.raises(SerializationError) as caught:
        validation.keys((None, "name"), ("key", "key"))
    assert caught.value.path == "name"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (TIMESTAMP, "2030-01-02T03:04:05.678901+00:00"),
        (TIMESTAMP.replace(microsecond=0), "2030-01-02T03:04:05+00:00"),
        (datetime(2030, 1, 1, 2, 0, tzinfo=EAST), "2029-12-31T20:30:00+00:00"),
    ],
)
def test_timestamp_is_written_in_utc(value: datetime, stored: str) -> None:
    assert validation.timestamp(value, "path") == stored


@settings(deadline=None)
@given(
    some.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)),  # noqa: DTZ001 - hypothesis wants them naive
    some.integers(-1439, 1439),
)
def test_timestamp_of_any_offset_is_sent_in_utc(naive: datetime, minutes: int) -> None:
    timestamp = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    stored = validation.timestamp(timestamp, "path")
    assert stored.endswith("+00:00")
    assert datetime.fromisoformat(stored) == timestamp


@pytest.mark.parametrize("validate", [validation.timestamp, validation.milliseconds])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2030-01-01", "a datetime is needed, not str"),
        (TIMESTAMP.date(), "a datetime is needed, not date"),
        (NAIVE, "the datetime is naive: give it a timezone"),
        (datetime.min.replace(tzinfo=EAST), "the datetime lies outside the years 1 to 9999 of UTC"),
    ],
)
def test_timestamp_that_is_unusable_is_refused(validate: Validate, value: Any, reason: str) -> None:
    assert refusal(validate, value) == reason


@pytest.mark.parametrize(
    ("microseconds", "milliseconds"),
    [(0, 0), (999, 0), (1000, 1), (-1, -1), (-1000, -1), (-1001, -2), (86_400_000_000, 86_400_000)],
)
def test_milliseconds_are_rounded_down_on_both_sides_of_the_epoch(microseconds: int, milliseconds: int) -> None:
    timestamp = (EPOCH + timedelta(microseconds=microseconds)).astimezone(EAST)
    assert validation.milliseconds(timestamp, "path") == milliseconds


@pytest.mark.parametrize(("validate", "bits"), [(validation.integer, 32), (validation.big_integer, 64)])
def test_integer_is_held_to_the_bits_of_its_column(validate: Validate, bits: int) -> None:
    least, beyond = -(2 ** (bits - 1)), 2 ** (bits - 1)
    assert [validate(value, "path") for value in (least, 0, beyond - 1)] == [least, 0, beyond - 1]
    for value in (least - 1, beyond):
        assert refusal(validate, value) == f"the integer does not fit its column of {bits} bits"


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
@pytest.mark.parametrize("validate", [validation.integer, validation.big_integer])
def test_integer_of_another_type_is_refused(validate: Validate, value: Any) -> None:
    assert refusal(validate, value) == f"an integer is needed, not {type(value).__name__}"


def test_boolean_is_returned() -> None:
    assert validation.boolean(True, "path") is True
    assert validation.boolean(False, "path") is False


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_boolean_of_another_type_is_refused(value: Any) -> None:
    assert refusal(validation.boolean, value) == f"a bool is needed, not {type(value).__name__}"


@pytest.mark.parametrize("value", [WorkflowStatus.COMPLETE, "Complete", PointerStatus.COMPLETE])
def test_member_is_written_as_plain_text(value: str) -> None:
    written = workflow_status(value, "path")
    assert (type(written), written) == (str, "Complete")


@pytest.mark.parametrize("value", ["complete", "COMPLETE", PointerStatus.FAILED, "", None, 1, []])
def test_member_of_no_such_spelling_is_refused(value: Any) -> None:
    assert refusal(workflow_status, value) == "a WorkflowStatus is needed"


def test_optional_lets_none_through_and_validates_the_rest() -> None:
    validate = validation.optional(validation.integer)
    assert validate(None, "path") is None
    assert validate(7, "path") == 7
    assert refusal(validate, "7") == "an integer is needed, not str"


@pytest.mark.parametrize(("value", "rows"), [(None, None), (0, 0), (5, 5), (10**30, validation.MAX_ROWS)])
def test_count_is_cut_to_what_a_bigint_holds(value: int | None, rows: int | None) -> None:
    assert validation.count(value, "limit") == rows


@pytest.mark.parametrize("value", [-1, True, False, 1.5, "5"])
def test_count_that_is_no_number_of_rows_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^limit is a number of rows from 0 up, or None$"):
        validation.count(value, "limit")


def test_positive_begins_at_one() -> None:
    assert [validation.positive(value, "limit") for value in (1, 10**30)] == [1, validation.MAX_ROWS]


@pytest.mark.parametrize("value", [0, None, -1, True])
def test_positive_of_no_rows_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^limit is a number of rows from "):
        validation.positive(value, "limit")


def test_checked_leaves_out_what_is_none() -> None:
    params = validation.checked(
        version=(validation.integer, 0), reference=(validation.text, None), status=(workflow_status, "Complete")
    )
    assert params == {"version": 0, "status": "Complete"}


def test_checked_refuses_by_the_name_of_the_filter() -> None:
    with pytest.raises(SerializationError) as caught:
        validation.checked(version=(validation.integer, 1), reference=(validation.text, 5))
    assert caught.value.path == "reference"


@pytest.mark.parametrize("name", ["wfc", "_", "a1_b2", "x" * 63, "pgx", "selected"])
def test_schema_name_without_quotes_is_returned(name: str) -> None:
    assert validation.schema_name(name) == name


@pytest.mark.parametrize("name", ["", "Wfc", "1a", "a-b", "a b", 'a"b', "caf\u00e9", "x" * 64, "pg_store", "wfc\n", 5])
def test_schema_name_that_needs_quotes_is_a_value_error(name: Any) -> None:
    with pytest.raises(ValueError, match="would have to be quoted is not supported"):
        validation.schema_name(name)


@pytest.mark.parametrize("name", ["select", "user", "lateral", "collation", "concurrently"])
def test_schema_name_that_is_a_keyword_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"^a schema cannot be called {name}: "):
        validation.schema_name(name)
