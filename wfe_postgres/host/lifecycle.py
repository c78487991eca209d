"""Tells callbacks and a publisher what happened to workflows."""

from collections.abc import Callable, Sequence

from wfe_postgres.contract.services import LifecycleEvent, LifecyclePublisher
from wfe_postgres.host.environment import LOG


class Lifecycle:
    """Calls what was registered. One that raises stops nothing; that is logged."""

    def __init__(self, publisher: LifecyclePublisher | None) -> None:
        self._callbacks: list[Callable[[LifecycleEvent], object]] = [] if publisher is None else [publisher.publish]

    def on(self, callback: Callable[[LifecycleEvent], object]) -> None:
        """Call it with each event, in the thread that made it true."""
        self._callbacks.append(callback)

    def publish(self, events: Sequence[LifecycleEvent]) -> None:
        """Call all callbacks with each event."""
        for event in events:
            for callback in self._callbacks:
                try:
                    callback(event)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # a SystemExit would leave the workflow claimed
                    LOG.exception("a lifecycle callback failed on %s of workflow %r", event.type, event.workflow_id)
