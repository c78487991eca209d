"""From the text of a row's document to a contract object, and what to say of a row that cannot be read.

The way that works is one line; the rest is taken only when it fails, and finds out which row and column is to blame.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from wfe_postgres.codec.fields import POINTER_COLUMNS, Columns, Document, pointer_from_document
from wfe_postgres.codec.json_values import decode
from wfe_postgres.contract.errors import CorruptRowError
from wfe_postgres.contract.models import ExecutionPointer

_T = TypeVar("_T")

_SEPARATOR = re.compile(r"[\s,]*")
_UNREADABLE = (ValueError, TypeError, LookupError, RecursionError)


def read(text: str, convert: Callable[[Document], _T], columns: Columns) -> _T:
    """What `convert` makes of one row's document. `CorruptRowError`: something in it cannot be read."""
    try:
        return convert(decode(text))
    except _UNREADABLE:
        blamed = _blame(text, convert, columns)
    raise blamed


def read_pointers(text: str) -> tuple[list[ExecutionPointer], list[int]]:
    """The pointers of one workflow, from an array of their documents, and their positions."""
    try:
        documents = decode(text)
        pointers = [pointer_from_document(document) for document in documents]
    except _UNREADABLE:
        blamed = _blame_pointer(text)
    else:
        return pointers, [document[-1] for document in documents]
    raise blamed


class _Watched(list[Any]):
    """A document that remembers which column was asked for last: the one a conversion stumbled on."""

    last = 0

    def __getitem__(self, index: Any) -> Any:
        self.last = index
        return super().__getitem__(index)


def _blame(text: str, convert: Callable[[Document], object], columns: Columns) -> CorruptRowError:
    table = columns[0].class_.__tablename__
    try:
        document = _Watched(decode(text))
    except _UNREADABLE:
        readable, _ = _readable_elements(text, 0)
        return CorruptRowError(table, str(readable[0]), columns[len(readable)].key)
    with suppress(*_UNREADABLE):
        convert(document)
    return CorruptRowError(table, str(next(iter(document))), columns[document.last].key)


def _blame_pointer(text: str) -> CorruptRowError:
    documents, offset = _readable_elements(text, 0)
    for document in documents:
        try:
            pointer_from_document(document)
        except _UNREADABLE:
            return _blame(json.dumps(document), pointer_from_document, POINTER_COLUMNS)
    readable, _ = _readable_elements(text, offset)
    return CorruptRowError("execution_pointers", str(readable[0]), POINTER_COLUMNS[len(readable)].key)


def _readable_elements(text: str, offset: int) -> tuple[list[Any], int]:
    """The elements of the JSON array that begins at `offset`, up to one that cannot be read, and its offset."""
    elements: list[Any] = []
    decoder = json.JSONDecoder()
    while True:
        offset = _end(_SEPARATOR.match(text, offset + (not elements)))
        try:
            element, offset = decoder.raw_decode(text, offset)
        except (ValueError, RecursionError):
            return elements, offset
        elements.append(element)


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "a pattern of stars alone matches everywhere"
    return match.end()
