"""A table of an application, and the sessions and connections whose transactions the provider can join."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import ClientCursor
from psycopg.rows import dict_row
from sqlalchemy import Engine, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from wfe_postgres import PostgresRepositories
from wfe_postgres.testing.conformance.support import created, workflow

MAKE_ORDERS = "CREATE TABLE IF NOT EXISTS public.orders (id text PRIMARY KEY)"
NO_ORDERS = "TRUNCATE public.orders"


class AppBase(DeclarativeBase):
    """Base class of the application's tables."""


class Order(AppBase):
    """A row of the application."""

    __tablename__ = "orders"
    __table_args__ = ({"schema": "public"},)

    id: Mapped[str] = mapped_column(Text, primary_key=True)


class InTransaction:
    """A transaction of the application, and the session or connection that it belongs to."""

    def __init__(self, session_or_connection: Any, run: Callable[[str], object]) -> None:
        self.session_or_connection = session_or_connection
        self.run = run
        """Executes a statement of the application in the transaction."""
        self.commit: Callable[[], object] = session_or_connection.commit
        self.rollback: Callable[[], object] = session_or_connection.rollback


def insert_order(transaction: InTransaction, id: str = "order-1") -> None:
    """Insert a row of the application."""
    transaction.run(f"INSERT INTO public.orders VALUES ('{id}')")


Open = Callable[[Engine, str], AbstractContextManager[InTransaction]]


@contextmanager
def in_session(engine: Engine, url: str) -> Iterator[InTransaction]:
    """The transaction of a Session."""
    with Session(engine) as session:
        yield InTransaction(session, lambda it: session.execute(text(it)))


@contextmanager
def in_scoped_session(engine: Engine, url: str) -> Iterator[InTransaction]:
    """The transaction of a scoped_session, which Flask-SQLAlchemy uses."""
    scoped = scoped_session(sessionmaker(engine))
    yield InTransaction(scoped, lambda it: scoped.execute(text(it)))
    scoped.remove()


@contextmanager
def in_connection(engine: Engine, url: str) -> Iterator[InTransaction]:
    """The transaction of a SQLAlchemy connection."""
    with engine.connect() as connection:
        yield InTransaction(connection, lambda it: connection.execute(text(it)))


@contextmanager
def in_session_on_a_connection(engine: Engine, url: str) -> Iterator[InTransaction]:
    """The transaction of a Session that is bound to a connection, as is common in test suites."""
    with engine.connect() as connection, Session(connection) as session:
        yield InTransaction(session, lambda it: session.execute(text(it)))


@contextmanager
def in_psycopg(engine: Engine, url: str) -> Iterator[InTransaction]:
    """The transaction of a psycopg connection."""
    with psycopg.connect(url) as connection:
        yield InTransaction(connection, lambda it: connection.execute(it.encode()))


@contextmanager
def in_psycopg_like_django(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A transaction started with BEGIN on an autocommit psycopg connection, with dict rows and client-side cursors."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row, cursor_factory=ClientCursor) as connection:
        connection.execute("BEGIN")
        yield InTransaction(connection, lambda it: connection.execute(it.encode()))
        if not connection.closed:
            connection.rollback()


TRANSACTIONS: dict[str, Open] = {
    "Session": in_session,
    "scoped_session": in_scoped_session,
    "Session on a connection": in_session_on_a_connection,
    "Connection": in_connection,
    "psycopg": in_psycopg,
    "psycopg like Django's": in_psycopg_like_django,
}


def take_anothers_name(provider: PostgresRepositories, **values: Any) -> None:
    """A save that violates the unique key of names: 23505."""
    first, second = (created(provider, workflow(**values)) for _ in range(2))
    second.name = first.name
    provider.persist_workflow(second)
