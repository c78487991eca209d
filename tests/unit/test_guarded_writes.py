"""Writes under whatever revision a workflow has."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import pytest

from wfe_postgres import ConcurrencyError
from wfe_postgres.repositories.guarded_writes import ALL_STATUSES, _WriteOver, write_over
from wfe_postgres.statements import subscriptions, workflows

WRITE = workflows.CREATE  # any other statement
PARAMS = {"workflow_id": "w", "new_revision": 2}


class Rows:
    """Answers to the statements of a write; `written` are those to the write itself, in order."""

    def __init__(self, *written: Any, revisions: Iterable[int] = repeat(1)) -> None:
        self.written = list(written)
        self.revisions = iter(revisions)
        self.statements: list[Any] = []

    def __call__(self, statement: Any, _: Any) -> Any:
        self.statements.append(statement)
        if statement in (workflows.REVISION, workflows.LOCKED_REVISION):
            return [(next(self.revisions), "Runnable")]
        if statement is subscriptions.STORED_OF:
            return []
        answer = self.written.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_write_is_repeated_under_the_same_revision_after_a_rollback() -> None:
    write = _WriteOver(workflows.LOCKED_REVISION, WRITE, PARAMS, ALL_STATUSES)
    execute = Rows(LookupError("a deadlock"), [("w",)])
    with pytest.raises(LookupError):
        write(execute, False)
    assert write(execute, False)


def test_update_that_has_no_effect_twice_is_refused() -> None:
    with pytest.raises(ConcurrencyError) as caught:
        _WriteOver(workflows.LOCKED_REVISION, WRITE, PARAMS, ALL_STATUSES)(Rows([], [], []), False)
    assert (caught.value.expected, caught.value.found) == (1, 1)


class Runner:
    """Runs each attempt once; `transactions` counts those in a transaction."""

    def __init__(self, execute: Rows) -> None:
        self.execute = execute
        self.transactions = 0

    def write(self, attempt: Any, *_: str) -> Any:
        return attempt(self.execute, False)

    def transact(self, attempt: Any, *_: str) -> Any:
        self.transactions += 1
        return attempt(self.execute, False)


def test_unconditional_write_reads_the_revision_without_a_lock() -> None:
    runner: Any = Runner(Rows([("w",)]))
    write_over(runner, WRITE, PARAMS)
    assert (runner.execute.statements, runner.transactions) == ([workflows.REVISION, WRITE], 0)


def test_unconditional_write_that_others_came_before_twice_locks_the_row() -> None:
    runner: Any = Runner(Rows([], [], [("w",)], revisions=[1, 2, 3]))
    write_over(runner, WRITE, PARAMS)
    sent = [it for it in runner.execute.statements if it is not subscriptions.STORED_OF]
    assert sent == [workflows.REVISION, WRITE] * 2 + [workflows.LOCKED_REVISION, WRITE]
    assert runner.transactions == 1
