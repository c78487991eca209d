"""A write that locks its row first is tried again after a rollback, although nobody changed the row meanwhile."""

from typing import Any

import pytest

from wfe_postgres import ConcurrencyError
from wfe_postgres.repositories.guarded_writes import ALL_STATUSES, _LockedWrite
from wfe_postgres.statements import subscriptions, workflows

WRITE = workflows.CREATE  # any other statement
PARAMS = {"workflow_id": "w", "new_revision": 2}


class Rows:
    """Answers to the statements of a write; `written` are those to the write itself, in order."""

    def __init__(self, *written: Any) -> None:
        self.written = list(written)

    def __call__(self, statement: Any, _: Any) -> Any:
        if statement is workflows.LOCKED_REVISION:
            return [(1, "Runnable")]
        if statement is subscriptions.STORED_OF:
            return []
        answer = self.written.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_write_is_repeated_under_the_same_revision_after_a_rollback() -> None:
    write = _LockedWrite(WRITE, PARAMS, ALL_STATUSES)
    execute = Rows(LookupError("a deadlock"), [("w",)])
    with pytest.raises(LookupError):
        write(execute, False)
    assert write(execute, False)


def test_update_that_has_no_effect_twice_is_refused() -> None:
    with pytest.raises(ConcurrencyError) as caught:
        _LockedWrite(WRITE, PARAMS, ALL_STATUSES)(Rows([], [], []), False)
    assert (caught.value.expected, caught.value.found) == (1, 1)
