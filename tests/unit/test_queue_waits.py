"""When the threads of a process look into the queue."""

import pytest

from wfe_postgres.connections.deadlines import monotonic
from wfe_postgres.contract.services import QueueType
from wfe_postgres.services.queue_waits import Waits

WORKFLOW = QueueType.WORKFLOW
AT_ONCE = 0.01
SOON = 1.0


def looks(waits: Waits, within: float) -> bool:
    """Whether a thread that waits for so many seconds looks."""
    return waits.is_time(WORKFLOW, monotonic() + within)


@pytest.fixture
def waits() -> Waits:
    """At rest: notifications arrive, and the pauses have become long."""
    waits = Waits(600.0)
    waits.set_told(True)
    while looks(waits, SOON):
        pass
    return waits


def test_notification_lets_one_thread_look_at_once(waits: Waits) -> None:
    waits.look(WORKFLOW)
    assert looks(waits, AT_ONCE)
    assert not looks(waits, AT_ONCE)


@pytest.mark.parametrize("notifications", [1, 5])
def test_after_a_notification_the_queue_is_looked_at_again_soon(waits: Waits, notifications: int) -> None:
    """What is queued while another id waits is not notified; the process that takes the other can be busy after it."""
    for _ in range(notifications):
        waits.look(WORKFLOW)
        assert looks(waits, AT_ONCE)
    assert looks(waits, SOON)


def test_after_the_connection_was_made_the_queue_is_looked_at_again_soon(waits: Waits) -> None:
    waits.set_told(True)
    assert looks(waits, AT_ONCE)
    assert looks(waits, SOON)
