"""What is stored with an instance that the executor has changed."""

from dataclasses import dataclass, field

from wfe_postgres.contract.models import Event, EventSubscription, ExecutionError, WorkflowInstance
from wfe_postgres.contract.services import LifecycleEvent


@dataclass
class Changes:
    """What is stored in the transaction that saves the instance, and published after it."""

    subscriptions: list[EventSubscription] = field(default_factory=list)
    ended_subscriptions: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    errors: list[ExecutionError] = field(default_factory=list)
    children: list[WorkflowInstance] = field(default_factory=list)
    lifecycle: list[LifecycleEvent] = field(default_factory=list)

    @property
    def are_simple(self) -> bool:
        """True: the instance and new subscriptions are all there is to store."""
        return not (self.ended_subscriptions or self.events or self.errors or self.children)
