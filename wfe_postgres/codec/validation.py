"""Validates single values before they are sent: each function returns the parameter, or raises `SerializationError`."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from wfe_postgres.contract.errors import SerializationError

MAX_KEY_BYTES = 2600
"""How long an id, a name or an event's key may be, in bytes of UTF-8; the columns of one index together.

PostgreSQL refuses an index entry of more than 2,704 bytes on its 8 kB pages, headers and the other columns
of ours included. Text that compresses well would pass; do not depend on that.
"""

INT4 = 2**31
INT8 = 2**63
MAX_ROWS = 2**62

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_KEY_WORDS = RESERVED_WORDS | {"collation", "concurrently", "lateral", "system_user", "tablesample"}
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_T = TypeVar("_T")


def text(value: object, path: str) -> str:
    """Text that PostgreSQL can store."""
    if not isinstance(value, str):
        raise SerializationError(path, f"text is needed, not {type(value).__name__}")
    if reason := unstorable(value):
        raise SerializationError(path, f"the text contains {reason}")
    return value


def unstorable(value: str) -> str | None:
    """What in the text PostgreSQL could not store, if anything."""
    if value.isascii() and "\0" not in value:
        return None
    found = _UNSTORABLE.search(value)
    if found is None:
        return None
    return "a NUL character" if found[0] == "\0" else "a surrogate, which is no character"


def key(value: object, path: str) -> str:
    """Text that an index holds: an id, a name."""
    return keys((value, path))[0]


def keys(*values: tuple[object, str]) -> list[str]:
    """Texts that one index holds together, each with its path."""
    found = [text(value, path) for value, path in values]
    if sum(map(len, found)) * 4 > MAX_KEY_BYTES and (size := sum(len(it.encode()) for it in found)) > MAX_KEY_BYTES:
        together = "" if len(found) == 1 else f" together with {values[0][1]}"
        raise SerializationError(values[-1][1], f"takes {size} bytes{together}; an index holds {MAX_KEY_BYTES}")
    return found


def timestamp(value: object, path: str) -> str:
    """A timezone-aware datetime, as ISO 8601 in UTC with microseconds."""
    if not isinstance(value, datetime):
        raise SerializationError(path, f"a datetime is needed, not {type(value).__name__}")
    if value.tzinfo is UTC:
        return value.isoformat()
    if value.utcoffset() is None:
        raise SerializationError(path, "the datetime is naive: give it a timezone")
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        reason = "the datetime lies outside the years 1 to 9999 of UTC"
    raise SerializationError(path, reason)


def milliseconds(value: object, path: str) -> int:
    """A timezone-aware datetime, as whole milliseconds since the Unix epoch, rounded down."""
    since = datetime.fromisoformat(timestamp(value, path)) - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def integer(value: object, path: str, beyond: int = INT4) -> int:
    """An integer from `-beyond` up to but not including `beyond`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SerializationError(path, f"an integer is needed, not {type(value).__name__}")
    if not -beyond <= value < beyond:
        raise SerializationError(path, f"the integer does not fit its column of {beyond.bit_length()} bits")
    return value


def big_integer(value: object, path: str) -> int:
    """An integer that a bigint column holds."""
    return integer(value, path, INT8)


def natural(value: object, path: str) -> int:
    """An integer from 0 up that an int4 column holds: the engine's own type is unsigned."""
    if (number := integer(value, path)) < 0:
        raise SerializationError(path, "a negative integer")
    return number


def definition(value: object, path: str) -> tuple[str, int]:
    """The id and the version of a workflow definition."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise SerializationError(path, "a pair of definition id and version is needed")
    return text(value[0], f"{path}[0]"), natural(value[1], f"{path}[1]")


def boolean(value: object, path: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise SerializationError(path, f"a bool is needed, not {type(value).__name__}")
    return value


def member(kind: type[StrEnum], value: object, path: str) -> str:
    """The spelling of one of an enum's members."""
    if isinstance(value, kind):
        return value.value
    if isinstance(value, str) and value in kind.__members__.values():
        return str(value)
    raise SerializationError(path, f"a {kind.__name__} is needed")


def optional(validate: Callable[[Any, str], _T]) -> Callable[[Any, str], _T | None]:
    """The same validation of a value that may be `None`."""

    def validate_if_given(value: object, path: str) -> _T | None:
        return None if value is None else validate(value, path)

    return validate_if_given


def count(value: int | None, name: str) -> int | None:
    """A `limit`: `None`, or a number of rows from 0 up, as large as a bigint allows. ValueError for any other."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{name} is a number of rows from 0 up, or None")
    return None if value is None else min(value, MAX_ROWS)


def positive(number: int, name: str) -> int:
    """A number of rows from 1 up. ValueError for any other."""
    if not (rows := count(number, name)):
        raise ValueError(f"{name} is a number of rows from 1 up")
    return rows


def checked(**filters: tuple[Callable[[Any, str], Any], Any]) -> dict[str, Any]:
    """What the checks make of the values that are given, by name; `None` is none."""
    return {name: check(value, name) for name, (check, value) in filters.items() if value is not None}


def schema_name(schema: str) -> str:
    """The name of a schema. ValueError: PostgreSQL would have to quote it, or cut it off."""
    if not isinstance(schema, str) or not _PLAIN_NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise ValueError(
            "a schema's name that would have to be quoted is not supported: use up to 63 lower-case letters, digits "
            "and _, and not pg_ as a prefix"
        )
    if schema in _KEY_WORDS:
        raise ValueError(f"a schema cannot be called {schema}: a keyword of SQL would have to be quoted")
    return schema
