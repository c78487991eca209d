"""The reason that is given for an unknown outcome."""

import math
from typing import Any

import psycopg
import pytest

from wfe_postgres import OutcomeUnknownError
from wfe_postgres.connections.confirmation import CommitNotConfirmedError
from wfe_postgres.connections.failures import Failure, classify
from wfe_postgres.connections.pooled import PooledRunner

NO_CONNECTIONS: Any = None


def test_missing_confirmation_is_named_when_later_tries_lose_their_connection() -> None:
    """It says more than the failure of the last try."""
    failures = [classify(psycopg.OperationalError()) for _ in range(20)]

    def step(may_have_committed: bool) -> Failure:
        return failures.pop(0)

    runner = PooledRunner(NO_CONNECTIONS, "wfc", retry_budget=0.1)
    with pytest.raises(OutcomeUnknownError, match="standby") as caught:
        runner._retried(step, classify(CommitNotConfirmedError()), math.inf, ("w1",))
    assert caught.value.ids == ("w1",)
    assert len(failures) < 20
