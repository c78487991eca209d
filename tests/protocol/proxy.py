"""A proxy between psycopg and the server: it counts what passes, and loses it where a test says so."""

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
    """What is not passed on: then both ends of the connection are closed."""

    REQUEST = auto()
    ANSWER = auto()


@dataclass
class Traffic:
    """What has passed since the last `reset`."""

    round_trips: int = 0
    """How often the client spoke after the server had."""
    statements: int = 0
    """How many statements were executed."""
    readies: int = 0
    """How often the server reported that it was ready."""
    sent: int = 0
    """Bytes from the client to the server."""


class Proxy:
    """Listens on a unix socket and passes everything on to the server of `target`, a libpq URL.

    On a unix socket libpq asks for no encryption, so what passes can be read. `url` leads through it.
    """

    def __init__(self, target: str) -> None:
        with psycopg.connect(target) as connection:
            self._host, self._port = connection.info.host, connection.info.port
        self._directory = tempfile.TemporaryDirectory(prefix="wfe-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self._directory.name) / f".s.PGSQL.{PORT}"))
        self._listener.listen()
        place = {"host": self._directory.name, "port": str(PORT)}
        url = make_url(target).set(host=None, port=None).update_query_dict(place)
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
        """Begin to count anew."""
        self.traffic = Traffic()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client, self._connect()), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        requests, answers = Messages(typed=False), Messages(typed=True)
        answered = True
        with client, server, suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    chunk = end.recv(2**16)
                    if not chunk or self._loses(Loss.REQUEST if end is client else Loss.ANSWER):
                        return
                    if end is client:
                        self.traffic.round_trips += answered
                        self.traffic.statements += sum(kind in EXECUTIONS for kind in requests.cut(chunk))
                        self.traffic.sent += len(chunk)
                    else:
                        self.traffic.readies += answers.cut(chunk).count(READY)
                    answered = end is server
                    (server if end is client else client).sendall(chunk)

    def _loses(self, what: Loss) -> bool:
        if self.loss is not what:
            return False
        self.loss = None
        return True


class Messages:
    """Cuts one direction of the stream into its messages; the very first of the client's has no type."""

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed
        self._rest = bytearray()

    def cut(self, chunk: bytes) -> bytes:
        """The types of the messages that end in the chunk, a byte each."""
        self._rest += chunk
        kinds = bytearray()
        while (size := self._size()) and len(self._rest) >= size:
            if self._typed:
                kinds.append(self._rest[0])
            del self._rest[:size]
            self._typed = True
        return bytes(kinds)

    def _size(self) -> int | None:
        """The size of the message at the beginning, in bytes; None: it is not known yet."""
        start = 1 if self._typed else 0
        header = self._rest[start : start + 4]
        return start + int.from_bytes(header) if len(header) == 4 else None
