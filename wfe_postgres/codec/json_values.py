"""JSON values and text come back equal to what went in, or are refused before they are sent.

PostgreSQL's jsonb is stricter than Python (no NUL character, no NaN) and its numbers have no exponent, so
1e23 would come back as an integer that is not equal to it; a float from 1e16 up is therefore written with a
decimal point, which jsonb keeps. Key order and the sign of -0.0 are not kept by jsonb.

msgspec does the usual work: it is exact, needs a quarter of the standard library's time to encode and half to decode.
It encodes more than JSON has, so what it wrote is decoded and compared; in doubt the careful functions here decide.
"""

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any

import msgspec

from wfe_postgres.codec.validation import text, unstorable
from wfe_postgres.contract.errors import SerializationError
from wfe_postgres.contract.models import JSON_NULL

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""One JSON value's default limit, in bytes of its encoding. (PostgreSQL's own lies at 256 MB.)"""

MAX_CALL_BYTES = 200 * 1024 * 1024
"""How many bytes of values one call may carry. (json_to_recordset was seen to work beyond; memory suffers first.)"""

MAX_DIGITS = 4000
"""An integer's limit: Python by default reads at most 4,300 digits (`sys.set_int_max_str_digits`)."""

_BEYOND_DIGITS = 10**MAX_DIGITS
_BEYOND_EXACT = 1e16  # from here on float.__repr__ writes an exponent
_LONG_INTEGER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_HAS_EXPONENT = re.compile(rb"e(?<=[0-9]e)[0-9]")  # four times as fast as the next, and taken in by many a UUID
_EXPONENT = re.compile(rb"[:,\[]-?[0-9.]+e[0-9]")

_encode_fast: Callable[[Any], bytes] = msgspec.json.Encoder().encode
_decode_fast: Callable[[str | bytes], Any] = msgspec.json.Decoder().decode
_decode_any: Callable[[str], Any] = json.JSONDecoder().decode
_encode_any: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def decode(text: str) -> Any:
    """JSON text from the database to a Python value. ValueError or RecursionError: Python cannot read it."""
    try:
        return _decode_fast(text)
    except (ValueError, msgspec.MsgspecError):  # such as a number beyond the range of a double, which becomes infinite
        return _decode_any(text)


def encode(value: Any, path: str, limit: int = MAX_PAYLOAD_BYTES) -> str:
    """`value` as JSON text that jsonb returns equal; `JSON_NULL` as null.

    `path` is the field's name, where a `SerializationError`'s own path begins; `limit` is in bytes.
    """
    encoded = "null" if value is JSON_NULL else encode_plain(value)
    if encoded is None:
        encoded = _encode_carefully(value, path)
    check_size(encoded, path, limit)
    return encoded


def encode_members(values: dict[str, Any], prefix: str, limit: int) -> str:
    """The members of a JSON object, without its braces: as `encode` for each, in one call where that is exact."""
    encoded = encode_plain(values)
    if encoded is not None and len(encoded) * 4 <= limit:
        return encoded[1:-1]
    return ",".join(f'"{name}":{encode(value, prefix + name, limit)}' for name, value in values.items())


def encode_record(record: dict[str, Any]) -> str:
    """A row of validated texts, integers, booleans and `None`."""
    try:
        return _encode_fast(record).decode()
    except TypeError:  # of a class derived from `str` or `int`
        return _encode_any(record)


def encode_plain(value: Any, decode_alike: Callable[[bytes], Any] = _decode_fast) -> str | None:
    """The fast encoder's text, or `None` where it may not be exact, and `encode` or the like is to decide.

    `decode_alike`: of a dataclass's instance, what makes another one, and checks the types of its fields.
    """
    try:
        encoded = _encode_fast(value)
        is_exact = _is_plain(encoded) and not isinstance(value, float) and decode_alike(encoded) == value
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
        return None
    return encoded.decode() if is_exact else None


def check_size(encoded: str, path: str, limit: int) -> None:
    """Raise `SerializationError` when the text takes more than `limit` bytes in UTF-8."""
    if len(encoded) * 4 > limit and (size := len(encoded.encode())) > limit:
        raise SerializationError(path, f"encodes to {size} bytes, more than the limit of {limit}")


def size_in_bytes(text: str) -> int:
    """Of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def check_call_size(path: str, *values: str | None) -> None:
    """`SerializationError`: the values are too much for one call."""
    size = sum(map(size_in_bytes, filter(None, values)))
    if size > MAX_CALL_BYTES:
        raise SerializationError(path, f"the values of this call take {size} bytes together, of {MAX_CALL_BYTES}")


def _is_plain(encoded: bytes) -> bool:
    """Whether the fast encoder's text is exact for certain. False alarms are possible, as inside a string."""
    if b"\\u0000" in encoded or (_HAS_EXPONENT.search(encoded) and _EXPONENT.search(encoded)):
        return False
    return len(encoded) <= MAX_DIGITS or not _LONG_INTEGER.search(encoded)


def _encode_carefully(value: Any, path: str) -> str:
    """Slower than the fast encoder, and taken when that failed or may not be exact: it knows the path of each value."""
    try:
        return _write(value, path, set())
    except RecursionError:
        reason = "nested too deeply to be read back"
    except ValueError:
        reason = "an integer of more digits than this interpreter reads (sys.set_int_max_str_digits)"
    raise SerializationError(path, reason)


def _write(value: Any, path: str, around: set[int]) -> str:
    if isinstance(value, str):
        return _encode_any(text(value, path))
    if value is None or isinstance(value, (bool, int, float)):
        return _write_number(value, path)
    if not isinstance(value, (dict, list, tuple)):
        raise SerializationError(path, f"JSON has no {type(value).__name__}")
    if id(value) in around:
        raise SerializationError(path, "a circular reference")
    around.add(id(value))
    write = _write_mapping if isinstance(value, dict) else _write_list
    written = write(value, path, around)
    around.remove(id(value))
    return written


def _write_number(value: float | None, path: str) -> str:
    if value is None or isinstance(value, bool):
        return _encode_any(value)
    if isinstance(value, int):
        if not -_BEYOND_DIGITS < value < _BEYOND_DIGITS:
            raise SerializationError(path, f"an integer of more than {MAX_DIGITS} digits")
        return int.__repr__(value)
    if not isfinite(value):
        raise SerializationError(path, "NaN and Infinity are no JSON values")
    return format(value, ".1f") if abs(value) >= _BEYOND_EXACT else float.__repr__(value)


def _write_list(values: Any, path: str, around: set[int]) -> str:
    items = (_write(item, f"{path}[{index}]", around) for index, item in enumerate(values))
    return f"[{','.join(items)}]"


def _write_mapping(mapping: Any, path: str, around: set[int]) -> str:
    items = (f"{_write_key(key, path)}:{_write(item, _step(path, key), around)}" for key, item in mapping.items())
    return f"{{{','.join(items)}}}"


def _write_key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise SerializationError(path, f"a mapping key is {type(key).__name__}, not text")
    if reason := unstorable(key):
        raise SerializationError(path, f"a mapping key contains {reason}")
    return _encode_any(key)


def _step(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{_encode_any(key)}]"
