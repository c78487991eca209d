"""Canary values that must not be disclosed, and the texts in which an error could disclose them."""

import pickle
import traceback
from collections.abc import Iterator

CANARY = "canary-of-the-values"
PASSWORD = "canary-of-the-password"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error with its causes, contexts and grouped exceptions."""
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        it = pending.pop()
        if it is not None and it not in seen:
            seen.append(it)
            pending += [it.__cause__, it.__context__, *getattr(it, "exceptions", ())]
    yield from seen


def shown(error: BaseException) -> str:
    """The texts of the error as they appear in a log, a traceback or a pickle."""
    parts = [pickle.dumps(error).decode("latin-1"), *traceback.format_exception(error)]
    for it in chain(error):
        parts += [str(it), repr(it), repr(it.args), *getattr(it, "__notes__", ())]
    return "\n".join(parts)
