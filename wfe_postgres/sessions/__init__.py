"""Where a repository's session comes from, and the one place that catches and translates database errors."""

from wfe_postgres.sessions.calls import Calls, JoinedCalls, OwnCalls, calls_for
from wfe_postgres.sessions.execution import Execute
from wfe_postgres.sessions.failures import translate
from wfe_postgres.sessions.places import Place, engine_source
from wfe_postgres.sessions.watchdog import Watchdog

__all__ = [
    "Calls",
    "Execute",
    "JoinedCalls",
    "OwnCalls",
    "Place",
    "Watchdog",
    "calls_for",
    "engine_source",
    "translate",
]
