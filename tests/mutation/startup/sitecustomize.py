"""Python imports this when it starts and finds it on its path: so a test's child processes are broken, too."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.mutation.mutants import MUTANTS

MUTANTS[os.environ["WFE_MUTANT"]].install()
