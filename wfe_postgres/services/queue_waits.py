"""When the threads of one process that wait for work look into the queue."""

import threading
from collections import defaultdict

from wfe_postgres.connections.deadlines import monotonic
from wfe_postgres.contract.services import QueueType

SAFETY_INTERVAL = 30.0
"""Seconds between two looks at rest where notifications arrive, should one be lost all the same."""
_FIRST_PAUSE = 0.05
_LONGER = 8


class Waits:
    """Lets one thread look when there may be something, and the others wait.

    After a notification, and after something was found, the pauses between two looks begin small: for an id that was
    queued while another one waited there is no notification, and it can be committed a moment after that other one was
    taken, by a process whose threads are all busy then.
    """

    def __init__(self, poll_interval: float) -> None:
        self._poll_interval = poll_interval
        self._is_told = False
        self._changed = threading.Condition()
        self._next: defaultdict[QueueType, float] = defaultdict(float)
        self._pause: defaultdict[QueueType, float] = defaultdict(lambda: _FIRST_PAUSE)
        self._interrupted = 0

    def is_time(self, queue: QueueType, deadline: float) -> bool:
        """Wait until it is time to look. False: the deadline came first, or `interrupt`."""
        with self._changed:
            interrupted = self._interrupted
            while (now := monotonic()) < self._next[queue]:
                if now >= deadline or interrupted != self._interrupted:
                    return False
                self._changed.wait(min(self._next[queue], deadline) - now)
            interval = SAFETY_INTERVAL if self._is_told else self._poll_interval
            self._next[queue] = now + min(self._pause[queue], interval)
            self._pause[queue] = min(self._pause[queue] * _LONGER, SAFETY_INTERVAL)
            return True

    def look(self, queue: QueueType) -> None:
        """There may be something, or something more."""
        with self._changed:
            self._next[queue] = 0.0
            self._pause[queue] = _FIRST_PAUSE
            self._changed.notify_all()

    def set_told(self, is_told: bool) -> None:
        """Whether notifications arrive from now on. What was queued before is looked for at once."""
        with self._changed:
            self._is_told = is_told
            self._next.clear()
            self._pause.clear()
            self._changed.notify_all()

    def queued_here(self, queue: QueueType) -> None:
        """This process has queued something; where notifications arrive, one will."""
        if not self._is_told:
            self.look(queue)

    def interrupt(self) -> None:
        """Let all that wait return. No notifications arrive from now on."""
        with self._changed:
            self._is_told = False
            self._interrupted += 1
            self._changed.notify_all()
