"""An application of its own: a table beside the store's, and the places where it may keep a transaction."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import ClientCursor
from psycopg.rows import dict_row
from sqlalchemy import Engine, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

MAKE_ORDERS = "CREATE TABLE IF NOT EXISTS public.orders (id text PRIMARY KEY)"
NO_ORDERS = "TRUNCATE public.orders"


class AppBase(DeclarativeBase):
    """The application's own tables."""


class Order(AppBase):
    """A row of the application's."""

    __tablename__ = "orders"
    __table_args__ = ({"schema": "public"},)

    id: Mapped[str] = mapped_column(Text, primary_key=True)


class InTransaction:
    """A transaction of the application's: where the provider joins it, and how it ends."""

    def __init__(self, place: Any, run: Callable[[str], object]) -> None:
        self.place = place
        self.run = run
        """Runs a statement of the application's own."""
        self.commit: Callable[[], object] = place.commit
        self.rollback: Callable[[], object] = place.rollback


def insert_order(begun: InTransaction, id: str = "order-1") -> None:
    """Write a row of the application's own."""
    begun.run(f"INSERT INTO public.orders VALUES ('{id}')")


Open = Callable[[Engine, str], AbstractContextManager[InTransaction]]


@contextmanager
def in_session(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A Session's."""
    with Session(engine) as session:
        yield InTransaction(session, lambda it: session.execute(text(it)))


@contextmanager
def in_scoped_session(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A scoped session's, as Flask-SQLAlchemy has it."""
    scoped = scoped_session(sessionmaker(engine))
    yield InTransaction(scoped, lambda it: scoped.execute(text(it)))
    scoped.remove()


@contextmanager
def in_connection(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A SQLAlchemy connection's."""
    with engine.connect() as connection:
        yield InTransaction(connection, lambda it: connection.execute(text(it)))


@contextmanager
def in_session_on_a_connection(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A Session's that was given a connection, as test suites like to do."""
    with engine.connect() as connection, Session(connection) as session:
        yield InTransaction(session, lambda it: session.execute(text(it)))


@contextmanager
def in_psycopg(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A psycopg connection's."""
    with psycopg.connect(url) as connection:
        yield InTransaction(connection, lambda it: connection.execute(it.encode()))


@contextmanager
def in_psycopg_like_django(engine: Engine, url: str) -> Iterator[InTransaction]:
    """A psycopg connection's in autocommit, with a transaction begun by hand, other rows and client-side cursors."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row, cursor_factory=ClientCursor) as connection:
        connection.execute("BEGIN")
        yield InTransaction(connection, lambda it: connection.execute(it.encode()))
        if not connection.closed:
            connection.rollback()


PLACES: dict[str, Open] = {
    "Session": in_session,
    "scoped_session": in_scoped_session,
    "Session on a connection": in_session_on_a_connection,
    "Connection": in_connection,
    "psycopg": in_psycopg,
    "psycopg like Django's": in_psycopg_like_django,
}
