"""A TCP proxy between psycopg and the server that injects network faults.

It refuses, drops, resets, delays or redirects connections. The proxy of `tests/protocol` counts messages instead.
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

RESET = struct.pack("ii", 1, 0)  # SO_LINGER with timeout 0: close() sends RST


class Cut(Exception):  # noqa: N818
    """Reset the connection; `last` is still forwarded, and `then` is called before the client is notified."""

    def __init__(self, last: bytes = b"", then: Callable[[], None] = lambda: None) -> None:
        super().__init__(last)
        self.last = last
        self.then = then


class Fault:
    """A fault of the proxy, applied to all connections while it is set; this base class forwards everything."""

    accepts = True
    """Whether new connections are accepted; otherwise they are reset before any data is sent."""
    pause = 0.0
    """The delay after each byte of an answer, in seconds."""

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """Return the forwarded part of a chunk from the client (`request`) or the server; raise `Cut` to reset."""
        return chunk


PASS = Fault()


class Refuse(Fault):
    """New connections are refused; existing ones are kept."""

    accepts = False


@dataclass
class Silence(Fault):
    """Answers are dropped after `answers` bytes, without closing the connection, as by a network partition.

    `requests`: whether requests are still forwarded.
    """

    answers: int = 0
    requests: bool = True

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if request:
            return chunk if self.requests else b""
        forwarded, self.answers = chunk[: self.answers], max(0, self.answers - len(chunk))
        return forwarded


@dataclass
class SilentAfter(Fault):
    """Answers are dropped once the client has sent the token; requests are still forwarded."""

    token: bytes
    token_seen: bool = False

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        self.token_seen |= request and self.token in chunk
        return chunk if request or not self.token_seen else b""


@dataclass
class CutAfter(Fault):
    """The connection is reset after `bytes_left` bytes in both directions; `then` may set another fault."""

    bytes_left: int
    then: Callable[[], None]

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if len(chunk) < self.bytes_left:
            self.bytes_left -= len(chunk)
            return chunk
        raise Cut(chunk[: self.bytes_left], self.then)


class EndAfter(CutAfter):
    """The same, but the connection is closed without a reset, as by a server that ends."""

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        try:
            return super().passed(chunk, request=request)
        except Cut as cut:
            cut.then()
            raise ConnectionError from None


@dataclass
class CutLarge(Fault):
    """Connections with a request of more than `limit` bytes are reset, as by a server that is out of memory."""

    limit: int
    cuts: int = 0
    bytes_sent: int = 0

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        self.bytes_sent = self.bytes_sent + len(chunk) if request else 0
        if self.bytes_sent > self.limit:
            self.cuts += 1
            self.bytes_sent = 0
            raise Cut
        return chunk


class Trickle(Fault):
    """Answers are forwarded at one byte per second."""

    pause = 1.0


@dataclass
class Delay(Fault):
    """Every answer is delayed by `seconds`."""

    seconds: float

    def passed(self, chunk: bytes, *, request: bool) -> bytes:
        """See `Fault`."""
        if not request:
            time.sleep(self.seconds)
        return chunk


class TcpProxy:
    """Listens on 127.0.0.1, at `port` or a free port, and forwards to the server of `target` subject to `fault`.

    `target` is a libpq URL; `url` connects through the proxy. Each connection has a thread.
    """

    def __init__(self, target: str, port: int = 0) -> None:
        self.fault: Fault = PASS
        self.bytes_passed = 0
        self.connections = 0
        """The number of connection attempts."""
        self._target = _address(target)
        self._listener = socket.create_server(("127.0.0.1", port))
        self._ends: set[socket.socket] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        url = make_url(target).set(host="127.0.0.1", port=self._listener.getsockname()[1])
        # Without encryption, so that the faults can match the data.
        url = url.difference_update_query(["host", "port"]).update_query_dict({"sslmode": "disable"})
        self.url = url.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut(self) -> None:
        """Close all connections."""
        for end in tuple(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def switch(self, target: str) -> None:
        """Forward new connections to another server, a libpq URL or `host:port`."""
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
            self._forward(client, server)
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

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while not self._stop.is_set():
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
            if self._stop.wait(pause):
                return


def _address(target: str) -> tuple[str, int]:
    """Return host and port of a server, as resolved by libpq from a URL."""
    if "/" not in target:
        host, port = target.split(":")
        return host, int(port)
    with psycopg.connect(target) as connection:
        return connection.info.host, connection.info.port


def _reset(end: socket.socket) -> None:
    if end.family == socket.AF_INET:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()
