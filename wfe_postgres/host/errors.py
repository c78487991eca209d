"""What a step can fail with in the host, and what then happens to its workflow."""

from dataclasses import dataclass
from typing import Any

from wfe_postgres.host.results import Time, seconds


class FreshStartError(Exception):
    """A step failed with what it has stored: a retry begins anew, without its event and its persistence data."""


class WaitTimeoutError(FreshStartError):
    """No event came within the timeout."""


class ActivityFailedError(FreshStartError):
    """The worker of an activity reported a failure."""


class SagaFailedError(FreshStartError):
    """A step of a saga failed for good, and what was completed in it has been compensated."""


class SubWorkflowTerminatedError(Exception):
    """The child workflow was terminated."""


class LostTryError(Exception):
    """The process that ran a step was killed, or its lease expired."""


@dataclass(frozen=True)
class Retry:
    """Run a failed step again: after `interval` seconds, then `backoff` times as many, at most `max_interval`.

    After `max_retries` retries (`None`: no limit) the saga that contains the step fails; outside a saga the workflow is
    suspended. Raises `ValueError` for a negative number.
    """

    interval: Time = 60.0
    max_retries: int | None = 3
    backoff: float = 2.0
    max_interval: Time = 3600.0

    def __post_init__(self) -> None:
        seconds(self.interval), seconds(self.max_interval)
        if not (self.backoff >= 1 and (self.max_retries is None or self.max_retries >= 0)):
            raise ValueError("max_retries is a number from 0 up or None, and backoff one from 1 up")

    def delay(self, retry: int) -> float | None:
        """The seconds before the retry of this number, which begins at 1; `None`: there is no such retry."""
        if self.max_retries is not None and retry > self.max_retries:
            return None
        longest = seconds(self.max_interval)
        try:
            return min(longest, seconds(self.interval) * self.backoff ** (retry - 1))
        except OverflowError:
            return longest


@dataclass(frozen=True)
class Suspend:
    """Suspend the workflow when the step fails: `resume_workflow` runs the step again."""


@dataclass(frozen=True)
class Terminate:
    """Terminate the workflow when the step fails."""


@dataclass(frozen=True)
class Compensate:
    """Let the saga that contains the step fail at once, without a retry; outside a saga the workflow is suspended."""


ErrorBehavior = Retry | Suspend | Terminate | Compensate
"""What happens to a workflow of which a step has failed."""


def require_behavior(value: Any, where: str) -> None:
    """Raises `ValueError` if this is no error behavior."""
    if not isinstance(value, ErrorBehavior):
        raise ValueError(f"{where}: on_error is Retry(), Suspend(), Terminate() or Compensate()")
