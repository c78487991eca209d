"""Connections of a sessionmaker's sessions, each leased for one call."""

from typing import Any

from sqlalchemy.orm import sessionmaker

from wfe_postgres.connections.checkout import BIND_ARGUMENTS, Lease, Open, require_psycopg
from wfe_postgres.connections.failures import CATCHABLE
from wfe_postgres.orm import WorkflowRow


def session_source(make: sessionmaker[Any]) -> Open:
    """Leases connections of new sessions, one per call. ValueError, at the first call: they are not psycopg 3's."""

    def lease(transaction: bool) -> Lease:
        session = make()
        require_psycopg(session.get_bind(mapper=WorkflowRow).engine)
        options = {"isolation_level": "READ COMMITTED" if transaction else "AUTOCOMMIT"}
        try:
            connection = session.connection(bind_arguments=BIND_ARGUMENTS, execution_options=options)
            return Lease(connection, session.get_transaction, session.close)
        except CATCHABLE:
            session.close()
            raise

    return lease
