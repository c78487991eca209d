"""A TCP proxy in a separate process that adds a delay in each direction and counts round trips.

Data is forwarded in order after the delay, independently of earlier data. A pipeline of statements is therefore delayed
once, as in a real network.
"""

import multiprocessing
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.sharedctypes import Synchronized
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import make_url

MILLISECOND = 0.001


class DelayProxy:
    """A proxy to the server of the libpq URL `target`; `delay` is in seconds, per direction."""

    def __init__(self, target: str, delay: float = MILLISECOND) -> None:
        with psycopg.connect(target) as connection:
            address = connection.info.host, connection.info.port
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe(duplex=False)
        self._round_trips: Synchronized[int] = context.Value("q", 0)
        self._process = context.Process(target=_serve, args=(address, delay, self._round_trips, far), daemon=True)
        self._process.start()
        far.close()
        with near:
            self._address = {"host": "127.0.0.1", "port": str(near.recv())}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()

    def through(self, url: str) -> str:
        """The URL of a database of the server through this proxy."""
        parsed = make_url(url).set(host=None, port=None).update_query_dict(self._address)
        return parsed.render_as_string(hide_password=False)

    @property
    def round_trips(self) -> int:
        """The number of round trips on all connections: client messages that follow a server message."""
        return self._round_trips.value


def _serve(address: tuple[str, int], delay: float, round_trips: "Synchronized[int]", ready: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready.send(listener.getsockname()[1])
        ready.close()
        while True:
            client, _ = listener.accept()
            _Connection(client, _connect(*address), delay, round_trips)


def _connect(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server


class _Connection:
    """A client connection, with a reading and a writing thread for each direction."""

    def __init__(
        self, client: socket.socket, server: socket.socket, delay: float, round_trips: "Synchronized[int]"
    ) -> None:
        self._delay = delay
        self._round_trips = round_trips
        self._server_sent = True
        for end in (client, server):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._forward(client, server, self._on_client_data)
        self._forward(server, client, self._on_server_data)

    def _forward(self, source: socket.socket, target: socket.socket, on_data: Callable[[], None]) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def read() -> None:
            chunk = b"more"
            while chunk:
                try:
                    chunk = source.recv(2**18)
                except OSError:
                    chunk = b""
                waiting.put((time.monotonic() + self._delay, chunk))
                if chunk:
                    on_data()

        def write() -> None:
            with suppress(OSError):
                while True:
                    due, chunk = waiting.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    if not chunk:
                        return target.shutdown(socket.SHUT_WR)
                    target.sendall(chunk)

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def _on_client_data(self) -> None:
        if self._server_sent:
            self._server_sent = False
            with self._round_trips.get_lock():
                self._round_trips.value += 1

    def _on_server_data(self) -> None:
        self._server_sent = True
