"""Values that must not leave by accident, and all that an error would show."""

import pickle
import traceback
from collections.abc import Iterator

CANARY = "canary-of-the-values"
PASSWORD = "canary-of-the-password"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that Python would show with it."""
    seen: list[BaseException] = []
    rest: list[BaseException | None] = [error]
    while rest:
        it = rest.pop()
        if it is not None and it not in seen:
            seen.append(it)
            rest += [it.__cause__, it.__context__, *getattr(it, "exceptions", ())]
    yield from seen


def shown(error: BaseException) -> str:
    """Everything that a log, a traceback or a queue would get of it."""
    parts = [pickle.dumps(error).decode("latin-1"), *traceback.format_exception(error)]
    for it in chain(error):
        parts += [str(it), repr(it), repr(it.args), *getattr(it, "__notes__", ())]
    return "\n".join(parts)
