"""The duration of `import wfe_postgres` in a new interpreter, compared with its required dependencies."""

import subprocess
import sys

from benchmarks.harness import Race
from benchmarks.scenario import OURS, Scenario, at_most

REQUIRED = "import sqlalchemy.orm, psycopg"
OPTIONAL = ("alembic", "typer", "rich")

_TIMED = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
_COUNT = f"import sys, wfe_postgres; print(len({{*{OPTIONAL}}} & {{*sys.modules}}))"


def run(scenario: Scenario) -> None:
    """Alternate between the two imports."""
    scenario.progress.race("import wfe_postgres")
    statements = {OURS: "import wfe_postgres", REQUIRED: REQUIRED}
    times: dict[str, list[float]] = {implementation: [] for implementation in statements}
    for turn in range(scenario.plan.imports + 1):
        for implementation, statement in statements.items():
            times[implementation].append(_output(_TIMED.format(statement)))
        scenario.progress.advance(turn / scenario.plan.imports)
    race = scenario.add_race(
        Race("import wfe_postgres", {implementation: durations[1:] for implementation, durations in times.items()})
    )
    scenario.ratio(race.title, f"of `{REQUIRED}`", race.ratio(OURS, REQUIRED), at_most(1.3))
    scenario.value(race.title, f"of {', '.join(OPTIONAL)} imported as well", _output(_COUNT), target=at_most(0))


def _output(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
