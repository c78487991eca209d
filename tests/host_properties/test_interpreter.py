"""The reference interpreter itself, on programs whose runs are plain."""

import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.faults.kit.form import runs
from tests.host_properties.acceptance import mismatch, replayed
from tests.host_properties.interpreter import Observed, Published
from tests.host_properties.programs import (
    FOR_GOOD,
    Branch,
    End,
    ForEach,
    If,
    Node,
    Parallel,
    Recur,
    Saga,
    Schedule,
    Step,
    SubWorkflow,
    WaitFor,
    While,
    numbered,
    programs,
)
from wfe_postgres import WorkflowStatus

COMPLETE, SUSPENDED, TERMINATED = WorkflowStatus.COMPLETE, WorkflowStatus.SUSPENDED, WorkflowStatus.TERMINATED
WAITING = WorkflowStatus.RUNNABLE
EVENTS = (Published("e0", "k0", True), Published("e1", "k0", False), Published("e2", "k0", False))
STARTS = "the start of e"
CHILD = (2, "")


def program(*nodes: Node) -> Branch:
    """A program with numbers."""
    return numbered(nodes)


SEQUENCE = program(Step(), Step(failures=2), Step())
FAILING = program(Step(), Step(failures=FOR_GOOD), Step())
BRANCHES = program(Parallel(((Step(), Step()), (Step(),))), Step())
SAGA = program(Saga((Step(compensation=0), Step(compensation=1), Step()), 1), Step())
AGAIN = program(Saga((Step(compensation=0),), 1, 1))
NESTED = program(Saga((Step(compensation=0), Saga((Step(compensation=0),)), Step(failures=FOR_GOOD))))
LOOP = program(While(2, (WaitFor("k0"),)), WaitFor("k0", True))
ITEMS = program(ForEach(2, (Step(), Step()), False))
BESIDE = program(Schedule(1, (Step(),)), Recur(1, (Step(),)), Step())
ENDING = program(Parallel(((End(),), (Step(),))), Step())
PARENT = program(Step(), SubWorkflow((Step(),)), Step())
TIMED = program(WaitFor("t0", timed=True, on_timeout=(Step(),)), If(False, (Step(),)), WaitFor("t0", timed=True))


@pytest.mark.parametrize(
    ("program", "log", "status"),
    [
        (SEQUENCE, "s1@ s2@ s3@", COMPLETE),
        (FAILING, "s1@", SUSPENDED),
        (BRANCHES, "s2@ s4@ s3@ s5@", COMPLETE),
        (SAGA, "m1@ s2@ s3@ s4@ c3@ c2@ s5@", COMPLETE),
        (AGAIN, "m1@ s2@ c2@ m1@ s2@ x1@", COMPLETE),
        (NESTED, "m1@ s2@ m3@ s4@ x3@ c4@ c2@", COMPLETE),
        (LOOP, "m1@ w2@=e1 m1@ w2@=e2 w3@=e0", COMPLETE),
        (ITEMS, "s2@/0 s3@/0 s2@/1 s3@/1", COMPLETE),
        (BESIDE, "s5@ m3@ s2@ s4@", COMPLETE),
        (ENDING, "", COMPLETE),
        (ENDING, "s3@", COMPLETE),
        (TIMED, "s2@", SUSPENDED),
    ],
)
def test_run_that_the_program_can_make_is_accepted(program: Branch, log: str, status: WorkflowStatus) -> None:
    assert mismatch(program, Observed(tuple(log.split()), status, EVENTS)) is None


@pytest.mark.parametrize(
    ("program", "log", "status"),
    [
        (SEQUENCE, "s1@ s3@ s2@", COMPLETE),
        (SEQUENCE, "s1@ s2@ s2@ s3@", COMPLETE),
        (SEQUENCE, "s1@ s2@", COMPLETE),
        (SEQUENCE, "s1@ s2@", WAITING),
        (SEQUENCE, "s1@ s2@ s3@", WAITING),
        (FAILING, "s1@", COMPLETE),
        (FAILING, "s1@", WAITING),
        (FAILING, "s1@ s3@", COMPLETE),
        (BRANCHES, "s2@ s4@ s5@ s3@", COMPLETE),
        (SAGA, "m1@ s2@ s3@ s4@ c2@ c3@ s5@", COMPLETE),
        (SAGA, "m1@ s2@ s3@ s4@ c3@ s5@", COMPLETE),
        (AGAIN, "m1@ s2@ c2@", SUSPENDED),
        (NESTED, "m1@ s2@ m3@ s4@ x3@ c2@ c4@", COMPLETE),
        (LOOP, "m1@ w2@=e1 m1@ w2@=e1 w3@=e0", COMPLETE),
        (LOOP, "m1@ w2@=e0 m1@ w2@=e1 w3@=e2", COMPLETE),
        (ITEMS, "s2@/0 s2@/1 s3@/0 s3@/1", COMPLETE),
        (BESIDE, "s5@ m3@ s4@", COMPLETE),
        (ENDING, "s3@ s4@", COMPLETE),
        (TIMED, "", WAITING),
    ],
)
def test_run_that_the_program_cannot_make_is_refused(program: Branch, log: str, status: WorkflowStatus) -> None:
    assert mismatch(program, Observed(tuple(log.split()), status, EVENTS)) is not None


@pytest.mark.parametrize(
    ("children", "log", "status"),
    [
        ([COMPLETE], "s1@ e2@ s4@", COMPLETE),
        ([TERMINATED], "s1@", SUSPENDED),
        ([SUSPENDED], "s1@", WAITING),
    ],
)
def test_parent_follows_its_child(children: list[WorkflowStatus], log: str, status: WorkflowStatus) -> None:
    observed = Observed(tuple(log.split()), status, EVENTS, {CHILD: children})
    assert mismatch(PARENT, observed) is None


@pytest.mark.parametrize("children", [[], [COMPLETE, COMPLETE]])
def test_child_that_is_missing_or_started_twice_is_noticed(children: list[WorkflowStatus]) -> None:
    assert mismatch(PARENT, Observed(("s1@", "e2@", "s4@"), COMPLETE, EVENTS, {CHILD: children})) is not None


def walk(program: Branch, choose: random.Random) -> tuple[Observed, list[str]]:
    """A run in which everything that can happen next is as likely; its children complete. And its decisions."""
    children = defaultdict[tuple[int, str], list[WorkflowStatus]](list)
    decisions: list[str] = []
    while True:
        run, labels, status = replayed(program, Observed((), WAITING, EVENTS, children), tuple(decisions))
        if status is not None:
            return Observed(tuple(run.log), status, EVENTS, children), decisions
        label = choose.choice(sorted(labels))
        if label.startswith(STARTS):
            node, path = label.removeprefix(STARTS).split("@")
            children[int(node), path].append(COMPLETE)
        else:
            decisions.append(label)


@given(programs(), some.integers(0, 2**32).map(random.Random))
@settings(deadline=None, max_examples=runs(50, 1_000))
def test_any_run_of_the_interpreter_is_accepted_and_not_one_without_its_last_effect(
    program: Branch, choose: random.Random
) -> None:
    observed, decisions = walk(program, choose)
    assert mismatch(program, observed) is None
    if observed.status is not SUSPENDED and not any(it.startswith("?") for it in decisions) and observed.log:
        assert mismatch(program, replace(observed, log=observed.log[:-1])) is not None
        assert mismatch(program, replace(observed, log=(*observed.log, observed.log[-1]))) is not None
