"""Transactions of an application's sessions, in which the steps of a workflow host are run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from wfe_postgres.connections.joined import BIND_ARGUMENTS
from wfe_postgres.connections.pools import driver_connection

_Provider = TypeVar("_Provider")


def step_transactions(
    sessions: Callable[[], Session], using: Callable[[Session], _Provider]
) -> Callable[[], AbstractContextManager[tuple[_Provider, Session]]]:
    """A new session for each transaction, and the provider in it. ValueError: it is not READ COMMITTED."""
    is_checked = False

    @contextmanager
    def transaction() -> Iterator[tuple[_Provider, Session]]:
        nonlocal is_checked
        with sessions() as session, session.begin():
            if not is_checked:
                _require_read_committed(session)
                is_checked = True
            session.commit = _refuse_commit  # type: ignore[method-assign]
            yield using(session), session

    return transaction


def _refuse_commit() -> None:
    # What the step has written would be stored without its result, and once more when the step is repeated.
    raise InvalidRequestError("the transaction of a step is committed by its host, with the result of the step")


def _require_read_committed(session: Session) -> None:
    """In a snapshot that is older than the renewal of a lease, every save of a long step would be refused."""
    connection = session.connection(bind_arguments=BIND_ARGUMENTS)
    level = "AUTOCOMMIT" if driver_connection(connection).autocommit else connection.get_isolation_level()
    if level != "READ COMMITTED":
        raise ValueError(f"the transaction of a step must be READ COMMITTED, not {level}")
