"""Python imports this module at startup, so that child processes of a test install the mutant, too."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.mutation.mutants import MUTANTS

MUTANTS[os.environ["WFE_MUTANT"]].install()
