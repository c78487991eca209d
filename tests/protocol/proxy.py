"""A proxy between psycopg and the server that counts messages and drops one on request."""

import select
import socket
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import make_url

PORT = 5432
EXECUTIONS = b"EQ"  # the client's messages Execute and Query
READY = ord("Z")


class Loss(Enum):
    """What the proxy drops before it closes both ends of the connection."""

    REQUEST = auto()
    ANSWER = auto()


@dataclass
class Traffic:
    """The traffic since the last `reset`."""

    round_trips: int = 0
    """How often the client sent data after the server had sent data."""
    statements: int = 0
    """The number of executed statements."""
    ready_messages: int = 0
    """The number of ReadyForQuery messages."""
    sent: int = 0
    """Bytes from the client to the server."""


class Proxy:
    """Listens on a Unix socket and forwards everything to the server of `target`, a libpq URL.

    libpq does not use encryption on a Unix socket, so the proxy can parse the messages. `url` connects through it.
    """

    def __init__(self, target: str) -> None:
        with psycopg.connect(target) as connection:
            self._host, self._port = connection.info.host, connection.info.port
        self._directory = tempfile.TemporaryDirectory(prefix="wfe-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._directory.name) / f".s.PGSQL.{PORT}"))
        self._listener.listen()
        socket_address = {"host": self._directory.name, "port": str(PORT)}
        url = make_url(target).set(host=None, port=None).update_query_dict(socket_address)
        self.url = url.render_as_string(hide_password=False)
        self.traffic = Traffic()
        self.loss: Loss | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._directory.cleanup()

    def reset(self) -> None:
        """Set all counters to zero."""
        self.traffic = Traffic()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client, self._connect()), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        requests, answers = Messages(typed=False), Messages(typed=True)
        answered = True
        with client, server, suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    chunk = end.recv(2**16)
                    if not chunk or self._drops(Loss.REQUEST if end is client else Loss.ANSWER):
                        return
                    if end is client:
                        self.traffic.round_trips += answered
                        self.traffic.statements += sum(kind in EXECUTIONS for kind in requests.split(chunk))
                        self.traffic.sent += len(chunk)
                    else:
                        self.traffic.ready_messages += answers.split(chunk).count(READY)
                    answered = end is server
                    (server if end is client else client).sendall(chunk)

    def _drops(self, what: Loss) -> bool:
        if self.loss is not what:
            return False
        self.loss = None
        return True


class Messages:
    """Splits one direction of the stream into messages; the first message of the client has no type byte."""

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed
        self._buffer = bytearray()

    def split(self, chunk: bytes) -> bytes:
        """The type bytes of the messages that end in the chunk."""
        self._buffer += chunk
        kinds = bytearray()
        while (size := self._size()) and len(self._buffer) >= size:
            if self._typed:
                kinds.append(self._buffer[0])
            del self._buffer[:size]
            self._typed = True
        return bytes(kinds)

    def _size(self) -> int | None:
        """The size in bytes of the first buffered message, or None if its header is incomplete."""
        start = 1 if self._typed else 0
        header = self._buffer[start : start + 4]
        return start + int.from_bytes(header) if len(header) == 4 else None
