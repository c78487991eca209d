"""A stand-in for a Valkey server: the commands that lock providers send, and no others."""

import threading
import time
from typing import Any

from examples.valkey_locks import RELEASE, RENEW


class Valkey:
    """The methods of `valkey.Valkey` that are needed. Each command is atomic, as on the server."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def set(self, key: str, value: str, *, nx: bool, ex: int) -> bool | None:
        """SET key value NX EX seconds."""
        assert nx
        with self._lock:
            if self._get(key) is not None:
                return None
            self._values[key] = value, time.monotonic() + ex
            return True

    def eval(self, script: str, number_of_keys: int, key: str, value: str, *arguments: Any) -> int:
        """The scripts of a release and of a renewal."""
        assert number_of_keys == 1
        with self._lock:
            if self._get(key) != value:
                return 0
            if script == RENEW:
                self._values[key] = value, time.monotonic() + arguments[0]
            else:
                assert script == RELEASE
                del self._values[key]
            return 1

    def locks(self) -> "frozenset[str]":
        """All keys that have not expired."""
        with self._lock:
            return frozenset(key for key in self._values if self._get(key) is not None)

    def expire_all(self) -> None:
        """As if the time of all keys had passed."""
        with self._lock:
            self._values.clear()

    def _get(self, key: str) -> str | None:
        value, expires = self._values.get(key, (None, 0.0))
        return value if time.monotonic() < expires else None
