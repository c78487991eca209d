"""Locks that a Python host shares with Rust hosts which use the engine's lock provider for Valkey (or Redis).

    WorkflowHost(provider, definitions, lock=ValkeyLocks(valkey.Valkey.from_url(url), prefix="wfe"))

The keys, the values and the script of a release are those of the engine's provider, so each respects the other's locks.
The engine's provider never renews a lock. This one does, because a Python host holds the lock for as long as its steps
take.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from wfe_postgres.contract.services import DistributedLockProvider

RELEASE = """
if redis.call("GET", KEYS[1]) == ARGV[1] then
    return redis.call("DEL", KEYS[1])
else
    return 0
end
"""
RENEW = """
if redis.call("GET", KEYS[1]) == ARGV[1] then
    return redis.call("EXPIRE", KEYS[1], ARGV[2])
else
    return 0
end
"""


class ValkeyLocks(DistributedLockProvider):
    """A key with an expiry for each lock. `client` is a `valkey.Valkey` or a `redis.Redis`."""

    def __init__(self, client: Any, *, prefix: str, lease: int = 30, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._prefix = prefix
        self._lease = lease
        self._now = now
        self._held: dict[str, tuple[str, float]] = {}
        """The value of each key, and when it expires by this process's clock."""
        self._guard = threading.Lock()
        self._stopped: threading.Event | None = None

    def acquire_lock(self, resource: str) -> bool:
        """Set the key, if there is none."""
        value, began = str(uuid4()), self._now()
        acquired = bool(self._client.set(self._key(resource), value, nx=True, ex=self._lease))
        if acquired:
            self._held[resource] = value, began + self._lease
        return acquired

    def release_lock(self, resource: str) -> None:
        """Delete the key, if it still has our value."""
        with self._guard:
            held = self._held.pop(resource, None)
        if held:
            self._client.eval(RELEASE, 1, self._key(resource), held[0])

    def is_held(self, resource: str) -> bool:
        """False from the time on at which somebody else can set the key."""
        held = self._held.get(resource)
        return held is not None and self._now() < held[1]

    def start(self) -> None:
        """Renew what is held, three times in a lease."""
        if self._stopped is None:
            self._stopped = threading.Event()
            threading.Thread(target=self._renew, args=(self._stopped,), daemon=True).start()

    def stop(self) -> None:
        """Release what is held."""
        if self._stopped is not None:
            self._stopped.set()
            self._stopped = None
        for resource in list(self._held):
            self.release_lock(resource)

    def _renew(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._lease / 3):
            for resource, held in list(self._held.items()):
                began = self._now()
                if began < held[1] and self._renewed(resource, held[0]):
                    with self._guard:
                        if self._held.get(resource) is held:
                            self._held[resource] = held[0], began + self._lease

    def _renewed(self, resource: str, value: str) -> bool:
        try:
            return bool(self._client.eval(RENEW, 1, self._key(resource), value, self._lease))
        except Exception as error:
            logging.getLogger(__name__).warning("the lock %r was not renewed: %s", resource, error)
            return False

    def _key(self, resource: str) -> str:
        return f"{self._prefix}:lock:{resource}"
