"""A caller's transaction, in a session or on a connection, in which calls can take part."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from wfe_postgres.connections.execution import Execute, bytes_for_text, not_streamed, run_by_driver, run_by_sqlalchemy
from wfe_postgres.connections.pools import driver_connection, require_psycopg
from wfe_postgres.orm import Base, WorkflowRow

SessionOrConnection = Session | scoped_session[Any] | Connection | psycopg.Connection[Any]
"""What a caller's transaction can be handed in as."""

BIND_ARGUMENTS = {"mapper": WorkflowRow}
"""What a session that has several binds is asked with."""


class JoinedTransaction(ABC):
    """The transaction of a session or connection, whichever is under way. Never committed or rolled back here."""

    @abstractmethod
    def driver(self) -> psycopg.Connection[Any]:
        """The psycopg connection."""

    @abstractmethod
    def executor(self, schema: str) -> Execute:
        """What runs a statement in this schema."""

    @abstractmethod
    def savepoint(self) -> AbstractContextManager[Any]:
        """A savepoint: released at the end of the block, rolled back to when the block raises."""

    def flush(self) -> None:  # noqa: B027 - only a session has pending objects
        """Send the session's pending objects. What fails there is the application's own error."""

    def after_write(self) -> None:  # noqa: B027
        """Let the session know that rows have changed which it did not change itself."""


class _JoinedConnection(JoinedTransaction):
    def __init__(self, connection: Connection) -> None:
        require_psycopg(connection.engine, joined=True)
        self._connection = connection

    def driver(self) -> psycopg.Connection[Any]:
        return driver_connection(self._connection)

    def executor(self, schema: str) -> Execute:
        return partial(run_by_sqlalchemy, self._connection, schema)

    def savepoint(self) -> AbstractContextManager[Any]:
        return _savepoint(self._connection, self._connection.begin_nested)


class _JoinedSession(JoinedTransaction):
    def __init__(self, session: Session | scoped_session[Any]) -> None:
        self._given = session

    @property
    def _session(self) -> Session:
        return self._given() if isinstance(self._given, scoped_session) else self._given

    def _connection(self) -> Connection:
        require_psycopg(self._session.get_bind(mapper=WorkflowRow).engine, joined=True)
        try:
            return self._session.connection(bind_arguments=BIND_ARGUMENTS)
        except TypeError as error:
            raise bytes_for_text(error) from None

    def driver(self) -> psycopg.Connection[Any]:
        return driver_connection(self._connection())

    def executor(self, schema: str) -> Execute:
        return partial(run_by_sqlalchemy, self._connection(), schema)

    def savepoint(self) -> AbstractContextManager[Any]:
        def begin() -> AbstractContextManager[Any]:
            nested = self._session.begin_nested()
            self._connection()  # until it is asked for a connection, the session sends nothing
            return nested

        return _savepoint(self._connection(), begin)

    def flush(self) -> None:
        self._session.flush()

    def after_write(self) -> None:
        session = self._session
        for row in session.identity_map.values():
            if isinstance(row, Base):
                session.expire(row)
        for listener in session.dispatch.after_flush:
            # zope.sqlalchemy rolls a session back that has only read, and sees no statement of ours.
            if mark_changed := getattr(getattr(listener, "__self__", None), "mark_changed", None):
                mark_changed(session)


@contextmanager
def _savepoint(connection: Connection, begin: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    with not_streamed(connection):
        nested = begin()
    try:
        yield
    except BaseException:
        with not_streamed(connection), nested:
            raise
    with not_streamed(connection), nested:
        pass


class _JoinedDriverConnection(JoinedTransaction):
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def driver(self) -> psycopg.Connection[Any]:
        return self._connection

    def executor(self, schema: str) -> Execute:
        return partial(run_by_driver, self._connection, schema)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        # Not psycopg's own `transaction()`: that begins a transaction, and ends it, where there is none.
        # One name for all: of several savepoints of a name PostgreSQL takes the innermost.
        self._connection.execute("SAVEPOINT wfe_postgres")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO wfe_postgres")
            self._connection.execute("RELEASE wfe_postgres")
            raise
        self._connection.execute("RELEASE wfe_postgres")


def join(session_or_connection: SessionOrConnection) -> JoinedTransaction:
    """The transaction of what a caller handed in. ValueError: it is none of these, or belongs to another driver."""
    if isinstance(session_or_connection, (Session, scoped_session)):
        return _JoinedSession(session_or_connection)
    if isinstance(session_or_connection, Connection):
        return _JoinedConnection(session_or_connection)
    if isinstance(session_or_connection, psycopg.Connection):
        return _JoinedDriverConnection(session_or_connection)
    raise ValueError(
        "a Session, a scoped_session, a SQLAlchemy Connection or a psycopg 3 Connection is needed, "
        f"not {type(session_or_connection).__name__}"
    )
