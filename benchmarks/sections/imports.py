"""How long `import wfe_postgres` takes, in a fresh interpreter, against what it cannot do without."""

import subprocess
import sys

from benchmarks.harness import Race
from benchmarks.scenario import OURS, Stage, at_most

NEEDED = "import sqlalchemy.orm, psycopg"
UNWANTED = ("alembic", "typer", "rich")

_TIMED = "import time; begin = time.perf_counter(); {}; print(time.perf_counter() - begin)"
_COUNT = f"import sys, wfe_postgres; print(len({{*{UNWANTED}}} & {{*sys.modules}}))"


def run(stage: Stage) -> None:
    """The two imports take turns."""
    stage.progress.race("import wfe_postgres")
    statements = {OURS: "import wfe_postgres", NEEDED: NEEDED}
    times: dict[str, list[float]] = {way: [] for way in statements}
    for turn in range(stage.plan.imports + 1):
        for way, statement in statements.items():
            times[way].append(_output(_TIMED.format(statement)))
        stage.progress.advance(turn / stage.plan.imports)
    race = stage.keep(Race("import wfe_postgres", {way: them[1:] for way, them in times.items()}))
    stage.ratio(race.title, f"of `{NEEDED}`", race.ratio(OURS, NEEDED), at_most(1.3))
    stage.value(race.title, f"of {', '.join(UNWANTED)} imported along", _output(_COUNT), target=at_most(0))


def _output(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)
