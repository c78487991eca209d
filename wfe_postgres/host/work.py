"""What is to be done by the threads of a host."""

import threading
from collections import deque
from enum import Enum


class Kind(Enum):
    """What an id is of."""

    WORKFLOW = "workflow"
    EVENT = "event"


Item = tuple[Kind, str]


class Work:
    """What is to be done, each item by one thread at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Item] = deque()
        self._known: set[Item] = set()
        self._busy: set[Item] = set()
        self._again: set[Item] = set()
        guard = threading.Lock()
        self._changed = threading.Condition(guard)
        self._taken = threading.Condition(guard)

    def add(self, item: Item, *, again: bool = True) -> bool:
        """False: it is waiting already, or is being done; then with `again` it is done once more."""
        with self._changed:
            if item in self._busy and again:
                self._again.add(item)
            if item in self._known or item in self._busy:
                return False
            self._waiting.append(item)
            self._known.add(item)
            self._changed.notify()
            return True

    def take(self, timeout: float) -> Item | None:
        """The next item, within so many seconds."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout)
            if not self._waiting:
                return None
            item = self._waiting.popleft()
            self._taken.notify_all()
            self._known.discard(item)
            self._busy.add(item)
            return item

    def done(self, item: Item) -> None:
        """The item that was taken is done."""
        with self._changed:
            self._busy.discard(item)
            if item in self._again:
                self._again.discard(item)
                self._waiting.append(item)
                self._known.add(item)
                self._changed.notify()

    def has_room(self, most: int, timeout: float) -> bool:
        """Whether fewer items wait than so many, at the latest after so many seconds."""
        with self._changed:
            return self._taken.wait_for(lambda: len(self._waiting) < most, timeout)

    def clear(self) -> None:
        """Forget what waits."""
        with self._changed:
            self._waiting.clear()
            self._known.clear()
            self._again.clear()

    def __len__(self) -> int:
        return len(self._waiting)
