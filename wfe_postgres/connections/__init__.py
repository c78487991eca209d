"""Everything between a repository's statement and the server: connections, deadlines, retries, what a failure means."""

from wfe_postgres.connections.checkout import PoolSource
from wfe_postgres.connections.execution import Execute
from wfe_postgres.connections.joined import SessionOrConnection
from wfe_postgres.connections.pooled import PooledRunner
from wfe_postgres.connections.runners import JoinedRunner, StatementRunner

__all__ = ["Execute", "JoinedRunner", "PoolSource", "PooledRunner", "SessionOrConnection", "StatementRunner"]
