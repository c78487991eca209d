"""A sample of the random programs on PostgreSQL, with the rows of an application written in the steps' transactions."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from sqlalchemy import text
from sqlalchemy.orm import sessionmaker

from tests.conftest import Sql
from tests.faults.kit.form import runs
from tests.host_properties.acceptance import mismatch
from tests.host_properties.programs import programs
from tests.host_properties.world import Case, MortalProvider, World, cases, mortal
from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.host import StepContext
from wfe_postgres.testing import ManualClock

SAMPLE = settings(
    deadline=None,
    max_examples=runs(10, 200),
    # Each case has keys and definitions of its own, so that one database is enough for all.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def committed(world: World) -> Counter[str]:
    """The effects in the data of all workflows of this case, each of which ran as its program says."""
    found: Counter[str] = Counter()
    for program, observed in world.runs():
        assert mismatch(program, observed) is None
        found.update(observed.log)
    return found


@given(case=cases(programs(3, 20)))
@SAMPLE
def test_program_ends_as_the_interpreter_says_on_postgresql(provider: PostgresPersistenceProvider, case: Case) -> None:
    world = World(case, provider, ManualClock()).run()
    assert committed(world) <= world.effects


@given(case=cases(programs(3, 20)))
@SAMPLE
def test_rows_of_step_transactions_are_written_exactly_once(
    provider: PostgresPersistenceProvider, sql: Sql, case: Case
) -> None:
    sql("CREATE TABLE IF NOT EXISTS effects (tag text, token text)")
    steps = provider.step_transactions(sessionmaker(provider.engine))

    @contextmanager
    def transaction(process: MortalProvider) -> Iterator[Any]:
        with mortal(process.life, steps()) as (joined, session):
            yield MortalProvider(joined, process.life), session

    def record(context: StepContext, token: str) -> None:
        context.session.execute(text("INSERT INTO effects VALUES (:tag, :token)"), {"tag": world.tag, "token": token})

    world = World(case, provider, ManualClock(), lambda process: lambda: transaction(process), record)
    world.run()
    rows = Counter(token for (token,) in sql("SELECT token FROM effects WHERE tag = %s", [world.tag]))
    assert rows == committed(world)
