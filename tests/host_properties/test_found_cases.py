"""Small programs on which a host has failed."""

import pytest

from tests.host_properties.programs import FOR_GOOD, Branch, ForEach, Node, Saga, Schedule, Step, WaitFor, numbered
from tests.host_properties.test_random_programs import check_world, lived
from tests.host_properties.world import FRESH, LATE, Case


def case(*program: Node, events: tuple[tuple[str, str | int], ...] = (), deaths: tuple[int, ...] = ()) -> Case:
    """A case of this program."""
    return Case(numbered(program), events, deaths)


WAIT: Branch = (WaitFor("k0"),)

FOUND = {
    "a timeout is not repeated without limit": case(WaitFor("t0", timed=True)),
    "a saga is not repeated without limit": case(Saga((Step(FOR_GOOD, 0),), on_error=1)),
    "what is scheduled in an iteration is before the next": case(
        ForEach(2, (Schedule(3, WAIT),), parallel=False), events=(("k0", FRESH), ("k0", LATE))
    ),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_program_ends_as_the_interpreter_says(case: Case) -> None:
    check_world(lived(case))
