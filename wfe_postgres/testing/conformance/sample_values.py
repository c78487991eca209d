"""Valid values with unusual properties: JSON, texts and timestamps."""

from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from typing import Any, cast
from zoneinfo import ZoneInfo

MAX_INTEGER = 10**4000 - 1
"""The largest integer with 4,000 digits."""

JSON_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "0": 0,
    "-1": -1,
    "2**31": 2**31,
    "2**53 + 1": 2**53 + 1,
    "-2**63": -(2**63),
    "2**64 + 1": 2**64 + 1,
    "4,000 digits": MAX_INTEGER,
    "4,000 digits, negative": -MAX_INTEGER,
    "0.1": 0.1,
    "-2.5": -2.5,
    "1.0": 1.0,
    "-0.0": -0.0,
    "1e15": 1e15,
    "1e16": 1e16,
    "123456789012345678.0": 123456789012345678.0,
    "1e22": 1e22,
    "1e23": 1e23,
    "-1e23": -1e23,
    "1e308": 1e308,
    "greatest float": 1.7976931348623157e308,
    "least normal float": 2.2250738585072014e-308,
    "5e-324": 5e-324,
    "1e-7": 1e-7,
    "empty text": "",
    "text that is JSON": '{"not": "an object"}',
    "text with 1e+16": "1e+16, or 1e23",
    "text of digits": "7" * 5000,
    "quotes and backslashes": '"\'\\ \\" /',
    "escape of a NUL": "\\u0000",
    "escape of an escape of a NUL": "\\\\u0000",
    "escape of a surrogate": "\\ud83d",
    "control characters": "".join(map(chr, [*range(1, 32), 127, 128, 159])),
    "line separators": "\r\n\u2028\u2029\u0085",
    "composed and decomposed": "\u00e9 e\u0301",
    "right to left": "\u05d0\u0628\u202e",
    "noncharacters": "\ufdd0\uffff\ufeff\U0001ffff",
    "every plane": "".join(chr(plane * 0x10000 + offset) for plane in range(17) for offset in (0x41, 0xFFFD)),
    "emoji of several characters": "\U0001f469\u200d\U0001f4bb",
    "empty list": [],
    "empty object": {},
    "empty inside": [{}, [], {"": {}}, [[]], {"a": None}, ""],
    "mixed": [None, True, 0, 1.5, "text", [1, [2, [3]]], {"a": {"b": [{"c": None}]}}],
    "null in containers": {"null": None, "list": [None, [None]]},
    "odd keys": {"": 1, " ": 2, "a.b": 3, "\\u0000": 4, "\U0001f600": 5, '"': 6, "1": 7, "__proto__": 8},
    "what looks like an instruction": {"py/object": "os.system", "$type": "x", "__class__": "y"},
    "fifty deep": reduce(lambda inner, _: [inner], range(50), cast(Any, {})),
    "many keys": {str(number): number for number in range(500)},
}

HOSTILE_TEXTS = {
    "percent": "100% %s %(x)s %%",
    "colon": ":x ::text :1",
    "quotes": "'; DROP TABLE workflows; --",
    "double quotes": '"a"',
    "backslash": "\\ \\n \\x41 \\",
    "lines": "a\nb\r\nc\t",
    "braces": "{} {0} {x} ${y}",
    "emoji": "\U0001f600 \U0010fffd",
    "spaces": "  a  ",
    "one space": " ",
}

TIMESTAMPS: dict[str, datetime] = {
    "UTC": datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
    "one microsecond": datetime(2000, 1, 1, 0, 0, 0, 1, UTC),
    "no microseconds": datetime(2000, 1, 1, tzinfo=UTC),
    "east": datetime(2024, 1, 1, 1, 2, 3, 456789, timezone(timedelta(hours=14))),
    "west": datetime(2024, 12, 31, 23, 2, 3, 456789, timezone(-timedelta(hours=11, minutes=30))),
    "odd offset": datetime(1890, 1, 1, 12, 0, 0, 5, timezone(timedelta(hours=0, minutes=19, seconds=32))),
    "daylight saving": datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("America/New_York")),
    "first of two": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    "second of two": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "before 1970": datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    "long ago": datetime(1, 1, 1, tzinfo=UTC),
    "far away": datetime.max.replace(tzinfo=UTC),
}
