"""Small programs, with a death or a rival at each of their moments; and those on which a host has failed before."""

from dataclasses import replace

import pytest

from tests.faults.kit.form import LONG
from tests.host_properties.programs import (
    FOR_GOOD,
    Branch,
    Delay,
    End,
    ForEach,
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
)
from tests.host_properties.test_random_programs import check_world, lived
from tests.host_properties.world import FRESH, LATE, OLDER, Case


def case(*program: Node, events: tuple[tuple[str, str | int], ...] = ()) -> Case:
    """A case of this program."""
    return Case(numbered(program), events)


STEP: Branch = (Step(),)
WAIT: Branch = (WaitFor("k0"),)

SMALL = {
    "retried step": case(Step(1), Step(2)),
    "failing step": case(Step(), Step(FOR_GOOD), Step()),
    "terminating step": case(Parallel((WAIT, (Step(1, "terminate"),)))),
    "delay": case(Delay(1), Step()),
    "late event": case(WaitFor("k0"), Step(), events=(("k0", LATE),)),
    "early events": case(WaitFor("k0", True), WaitFor("k0"), events=(("k0", OLDER), ("k0", FRESH))),
    "event while it runs": case(Step(), WaitFor("k0"), Step(), events=(("k0", 7),)),
    "event for a branch beside a step": case(Parallel((WAIT, (Step(),) * 6)), events=(("k0", 12),)),
    "event for two": case(Parallel((WAIT, WAIT)), Step(), events=(("k0", LATE),)),
    "event between others": case(*WAIT, *WAIT, events=(("k0", 3), ("k0", 12))),
    "timeout": case(WaitFor("t0", timed=True)),
    "handled timeout": case(WaitFor("t0", timed=True, on_timeout=STEP), Step()),
    "loop": case(While(2, WAIT), Step(), events=(("k0", FRESH), ("k0", LATE))),
    "items": case(ForEach(2, (Step(1), Step())), ForEach(2, STEP, False), Step()),
    "saga that is repeated": case(Saga((Step(compensation=1), Step(compensation=0)), 1, 1), Step()),
    "saga that fails for good": case(Saga((Step(FOR_GOOD, 0),), on_error=1)),
    "saga with a wait": case(Saga((Parallel(((Step(compensation=0), Step(1, 0)), WAIT)),)), Step()),
    "nested sagas": case(Saga((Step(compensation=0), Saga((Step(compensation=0),), 1), Step(FOR_GOOD, 0)))),
    "schedule": case(Schedule(3, STEP), Recur(2, STEP), Step()),
    "scheduled iterations": case(ForEach(2, (Schedule(3, WAIT),), False), events=(("k0", FRESH), ("k0", LATE))),
    "child": case(SubWorkflow((Step(1),)), Step()),
    "terminated child": case(Saga((Step(compensation=0), SubWorkflow((Step(1, "terminate"),)))), Step()),
    "end": case(Parallel((WAIT, STEP, (Step(), End()))), Step()),
}


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_small_program_ends_as_the_interpreter_says(case: Case) -> None:
    check_world(lived(case))


def moments(case: Case) -> range:
    """The ticks of its run when nothing happens; in the short form every fifth."""
    return range(3, lived(case).life.ticks + 1, 5) if not LONG else range(1, lived(case).life.ticks + 1)


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_host_can_die_at_every_moment(case: Case) -> None:
    for moment in moments(case):
        check_world(lived(replace(case, deaths=(moment,))))


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_another_host_can_work_at_every_moment(case: Case) -> None:
    for moment in moments(case):
        check_world(lived(replace(case, rivals=(moment,))))
    check_world(lived(replace(case, rivals=tuple(moments(case)))))
