"""A clock that stands still until it is told to go on."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """A clock for a host in tests: it stands still until `advance` or `advance_to`. It begins at `start`, or now.

    Alarms are stored in whole milliseconds, rounded up, so now is rounded down: then a step that waits for 2 seconds
    is due after `advance(2)`.
    """

    def __init__(self, start: datetime | None = None) -> None:
        now = datetime.now(UTC)
        self._now: datetime = start or now.replace(microsecond=now.microsecond // 1000 * 1000)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, time: float | timedelta) -> None:
        """Go on by so many seconds, or by a `timedelta`."""
        self._now += time if isinstance(time, timedelta) else timedelta(seconds=time)

    def advance_to(self, time: datetime) -> None:
        """Go on to this time, unless it has passed."""
        self._now = max(self._now, time)
