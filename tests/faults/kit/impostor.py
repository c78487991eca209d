"""Fake servers that request a clear text password, send invalid data or send an arbitrary error."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ENCRYPTION = {80877103, 80877104}  # the codes of SSLRequest and GSSENCRequest
PASSWORD_MESSAGE = b"p"
CLEARTEXT, MD5 = 3, 5

Script = Callable[[socket.socket], None]
"""Answers a client that has sent its startup message."""


@dataclass
class Impostor:
    """The port of a fake server, and what it has received."""

    port: int
    clients: int = 0
    received: list[bytes] = field(default_factory=list)
    """What each client sent after the script."""

    @property
    def passwords(self) -> list[bytes]:
        """The received password messages."""
        return [data for data in self.received if data.startswith(PASSWORD_MESSAGE)]


def message(kind: bytes, body: bytes) -> bytes:
    """Return a protocol message of the server."""
    return kind + (len(body) + 4).to_bytes(4) + body


def asks(method: int) -> Script:
    """Request a password with this method."""
    salt = b"salt" if method == MD5 else b""
    return lambda client: client.sendall(message(b"R", method.to_bytes(4) + salt))


def garbage(client: socket.socket) -> None:
    """Send data that is not in the PostgreSQL protocol."""
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256)))


def says(text: str) -> Script:
    """Reject the client with an error message of this text."""
    fields = [b"SFATAL", b"VFATAL", b"C28000", b"M" + text.encode()]
    return lambda client: client.sendall(message(b"E", b"\0".join(fields) + b"\0\0"))


@contextmanager
def impostor(script: Script) -> Iterator[Impostor]:
    """Run a server without TLS that applies the script to every client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        it = Impostor(listener.getsockname()[1])
        thread = threading.Thread(target=_serve, args=(listener, script, it), daemon=True)
        thread.start()
        try:
            yield it
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, script: Script, it: Impostor) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        it.clients += 1
        with client, suppress(OSError):
            client.settimeout(5)
            _decline_encryption(client)
            script(client)
            it.received.append(client.recv(1000))


def _decline_encryption(client: socket.socket) -> None:
    """Read the initial messages of the client, up to its startup message, and decline encryption."""
    while True:
        length = int.from_bytes(client.recv(4))
        body = client.recv(length - 4) if length > 4 else b""
        if int.from_bytes(body[:4]) not in ENCRYPTION:
            return
        client.sendall(b"N")
