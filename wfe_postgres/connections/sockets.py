"""The psycopg connection and the socket under a SQLAlchemy connection."""

import select
import socket
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import Connection


def driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """psycopg's connection under SQLAlchemy's."""
    found: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def is_closed(connection: Connection) -> bool:
    """Whether the server has closed an idle connection (or said something unasked, which ends in the same).

    One system call without waiting, so a connection that died in the pool costs no failed call.
    """
    driver = driver_connection(connection)
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def shut(descriptor: int) -> None:
    """End the TCP stream or unix socket behind the descriptor: whoever waits for it wakes with an error."""
    with suppress(OSError), socket.socket(fileno=descriptor) as stream:
        stream.shutdown(socket.SHUT_RDWR)
