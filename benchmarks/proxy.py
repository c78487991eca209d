"""A TCP proxy before the server, in a process of its own: it adds a delay each way and counts round trips.

Whatever arrives goes on after the delay, in order, and does not wait for what came before to have gone on; so a
pipeline of statements pays the delay once, as on a real network.
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
    """Leads to the server of `target`, a libpq URL; `delay` is in seconds, each way."""

    def __init__(self, target: str, delay: float = MILLISECOND) -> None:
        with psycopg.connect(target) as connection:
            place = connection.info.host, connection.info.port
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe(duplex=False)
        self._round_trips: Synchronized[int] = context.Value("q", 0)
        self._process = context.Process(target=_serve, args=(place, delay, self._round_trips, far), daemon=True)
        self._process.start()
        far.close()
        with near:
            self._place = {"host": "127.0.0.1", "port": str(near.recv())}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()

    def through(self, url: str) -> str:
        """The URL of a database of the server, by way of this proxy."""
        parsed = make_url(url).set(host=None, port=None).update_query_dict(self._place)
        return parsed.render_as_string(hide_password=False)

    @property
    def round_trips(self) -> int:
        """How often a client has spoken after the server had, on all connections together."""
        return self._round_trips.value


def _serve(place: tuple[str, int], delay: float, round_trips: "Synchronized[int]", answer: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer.send(listener.getsockname()[1])
        answer.close()
        while True:
            client, _ = listener.accept()
            _Connection(client, _connect(*place), delay, round_trips)


def _connect(host: str, port: int) -> socket.socket:
    if not host.startswith("/"):
        return socket.create_connection((host, port))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port}")
    return server


class _Connection:
    """One client's connection: for each direction a thread that reads and one that writes when it is time."""

    def __init__(
        self, client: socket.socket, server: socket.socket, delay: float, round_trips: "Synchronized[int]"
    ) -> None:
        self._delay = delay
        self._round_trips = round_trips
        self._server_spoke = True
        for end in (client, server):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pass_on(client, server, self._count)
        self._pass_on(server, client, self._note)

    def _pass_on(self, source: socket.socket, target: socket.socket, notice: Callable[[], None]) -> None:
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
                    notice()

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

    def _count(self) -> None:
        if self._server_spoke:
            self._server_spoke = False
            with self._round_trips.get_lock():
                self._round_trips.value += 1

    def _note(self) -> None:
        self._server_spoke = True
