"""A proxy between psycopg and the server, on TCP: it refuses, falls silent, cuts, delays, or leads elsewhere.

The one of `tests/protocol` counts what passes; this one is there to harm it.
"""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import make_url

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on and 0: the end of the socket is a RST


class Cut(Exception):  # noqa: N818
    """The connection is reset; `last` is what still passes, and `then` is called before the client can know."""

    def __init__(self, last: bytes = b"", then: Callable[[], None] = lambda: None) -> None:
        super().__init__(last)
        self.last = last
        self.then = then


class Fault:
    """What happens to all that passes, from when it is set; this one harms nothing."""

    accepts = True
    """Whether a new connection is one; a refused one is reset before a word is said."""
    pause = 0.0
    """How many seconds pass after each byte of an answer."""

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """What goes on of a chunk from the client (`request`), or from the server. `Cut`: both ends are reset."""
        return chunk


PASS = Fault()


class Refuse(Fault):
    """No new connection. Those that there are live on."""

    accepts = False


@dataclass
class Silence(Fault):
    """From this many bytes of answer on nothing is answered, and the client is not told so; as if a cable were cut.

    `requests`: whether the server still gets what the client says.
    """

    answers: int = 0
    requests: bool = True

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if request:
            return chunk if self.requests else b""
        heard, self.answers = chunk[: self.answers], max(0, self.answers - len(chunk))
        return heard


@dataclass
class SilentAfter(Fault):
    """Nothing is answered any more once the client has said the token; the server gets it, and what follows."""

    token: bytes
    said: bool = False

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        self.said |= request and self.token in chunk
        return chunk if request or not self.said else b""


@dataclass
class CutAfter(Fault):
    """Reset once this many bytes have passed, there and back together; `then` is called, and may set another fault."""

    bytes_left: int
    then: Callable[[], None]

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if len(chunk) < self.bytes_left:
            self.bytes_left -= len(chunk)
            return chunk
        raise Cut(chunk[: self.bytes_left], self.then)


@dataclass
class CutLarge(Fault):
    """Reset whoever says more than this at a time, as a server does that is out of memory."""

    most: int
    cuts: int = 0
    said: int = 0

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        self.said = self.said + len(chunk) if request else 0
        if self.said > self.most:
            self.cuts += 1
            self.said = 0
            raise Cut
        return chunk


class Trickle(Fault):
    """Answers come at one byte a second."""

    pause = 1.0


@dataclass
class Delay(Fault):
    """Every answer comes so many seconds late."""

    seconds: float

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if not request:
            time.sleep(self.seconds)
        return chunk


class TcpProxy:
    """Listens on 127.0.0.1, at `port` or a free one, and passes on to the server of `target` what `fault` lets pass.

    `target` is a libpq URL; `url` leads there by way of the proxy. The connections run in a thread each.
    """

    def __init__(self, target: str, port: int = 0) -> None:
        self.fault: Fault = PASS
        self.bytes_passed = 0
        self.connections = 0
        """How many have been asked for."""
        self._target = _address(target)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._ends: set[socket.socket] = set()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        url = make_url(target).set(host="127.0.0.1", port=self._listener.getsockname()[1])
        # Without encryption, or there would be no token to see.
        url = url.difference_update_query(["host", "port"]).update_query_dict({"sslmode": "disable"})
        self.url = url.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """End all connections, and those who wait on them."""
        for end in tuple(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def switch(self, target: str) -> None:
        """Lead new connections to another server, a libpq URL or `host:port`."""
        self._target = _address(target)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self.fault.accepts:
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()
            else:
                _reset(client)

    def _serve(self, client: socket.socket) -> None:
        server = self._connect()
        self._ends |= {client, server}
        try:
            self._pass_on(client, server)
        except OSError:
            pass
        finally:
            self._ends -= {client, server}
            client.close()
            server.close()

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        while not self._over.is_set():
            for end in select.select([client, server], [], [])[0]:
                chunk = end.recv(2**16)
                if not chunk:
                    return
                other, fault = (server if end is client else client), self.fault
                try:
                    passed = fault.passed(chunk, request=end is client)
                except Cut as cut:
                    if other is server:
                        server.sendall(cut.last)
                    _reset(server)
                    cut.then()
                    if other is client:
                        client.sendall(cut.last)
                    _reset(client)
                    return
                self.bytes_passed += len(chunk)
                if end is server and fault.pause:
                    self._trickle(client, passed, fault.pause)
                else:
                    other.sendall(passed)

    def _trickle(self, client: socket.socket, answer: bytes, pause: float) -> None:
        for byte in answer:
            client.sendall(bytes([byte]))
            if self._over.wait(pause):
                return


def _address(target: str) -> tuple[str, int]:
    """Where a server listens: what libpq makes of a URL, which may leave out most."""
    if "/" not in target:
        host, port = target.split(":")
        return host, int(port)
    with psycopg.connect(target) as connection:
        return connection.info.host, connection.info.port


def _reset(end: socket.socket) -> None:
    if end.family == socket.AF_INET:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()
