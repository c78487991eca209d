"""Connections of a sessionmaker's sessions, each leased for one call."""

from typing import Any

from sqlalchemy.orm import sessionmaker

from wfe_postgres.connections.execution import bytes_for_text
from wfe_postgres.connections.failures import CATCHABLE
from wfe_postgres.connections.joined import BIND_ARGUMENTS
from wfe_postgres.connections.lease import Lease
from wfe_postgres.connections.pools import require_psycopg
from wfe_postgres.orm import WorkflowRow


class SessionSource:
    """Connections of new sessions, one per call. ValueError, at the first call: they are not psycopg 3's."""

    def __init__(self, make: sessionmaker[Any]) -> None:
        self._make = make

    def for_transaction(self, deadline: float) -> Lease:
        """See `ConnectionSource`; nothing is known of the time that the sessionmaker takes."""
        return self._lease(transaction=True)

    def for_statements(self, deadline: float) -> Lease:
        """See `ConnectionSource`."""
        return self._lease(transaction=False)

    def _lease(self, *, transaction: bool) -> Lease:
        session = self._make()
        require_psycopg(session.get_bind(mapper=WorkflowRow).engine)
        try:
            connection = session.connection(bind_arguments=BIND_ARGUMENTS)
            # Not the session's transaction: in SQLAlchemy 2.0 that does not commit what a listener of the engine began.
            return Lease(connection, connection.get_transaction, session.close, transaction)
        except TypeError as error:
            session.close()
            raise bytes_for_text(error) from None
        except CATCHABLE:
            session.close()
            raise
