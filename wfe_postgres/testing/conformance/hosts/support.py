"""What the tests of hosts share: what they use of a host, a provider that can fail, and a world to run workflows in."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import pytest

from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ExecutionError, PointerStatus, WorkflowInstance, WorkflowStatus
from wfe_postgres.host import PendingActivity, StepContext, WorkflowBuilder, WorkflowDefinition
from wfe_postgres.testing.clock import ManualClock
from wfe_postgres.testing.conformance.support import eventually

LEASE = 30.0
"""Seconds, by the clock that a test sets."""


class Host(Protocol):
    """What the suite uses of a host. The methods are those of `WorkflowHost`."""

    def start_workflow(self, definition_id: str, data: Any = None, *, version: int | None = None) -> str:
        """Store a new workflow; returns its id."""
        ...

    def publish_event(self, name: str, key: str, data: Any = None, *, event_id: str = "") -> str:
        """Store an event; returns its id."""
        ...

    def suspend_workflow(self, id: str) -> bool:
        """Suspend a Runnable workflow."""
        ...

    def resume_workflow(self, id: str, *, skip_failed: bool = False) -> bool:
        """Run a Suspended workflow again."""
        ...

    def terminate_workflow(self, id: str) -> bool:
        """End a Runnable or Suspended workflow."""
        ...

    def get_pending_activity(self, name: str, worker_id: str, *, lease: float = 60.0) -> PendingActivity | None:
        """Take an activity."""
        ...

    def submit_activity_success(self, token: str, result: Any = None) -> None:
        """The activity is done."""
        ...

    def submit_activity_failure(self, token: str, reason: str) -> None:
        """The activity could not be done."""
        ...

    def start(self) -> None:
        """Begin to run workflows, in threads."""
        ...

    def stop(self, timeout: float | None = None) -> None:
        """Wait until the steps that are running have ended and been saved."""
        ...

    def run_until_idle(self, *, advance: bool = False) -> None:
        """Run everything that is due, in this thread; `advance`: then let the clock jump to the next alarm, and so on.

        The clock has `advance_to(time)`.
        """
        ...


class MakeHost(Protocol):
    """Makes a host of these definitions that is not started. `lease` and `poll_interval` are in seconds."""

    def __call__(
        self,
        provider: PersistenceProvider,
        definitions: Sequence[WorkflowDefinition],
        *,
        clock: Callable[[], datetime],
        lease: float,
        poll_interval: float,
    ) -> Host: ...


class Watched:
    """A provider that records its calls. `before` is called with the name and the arguments of each, and can raise."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.calls: list[str] = []
        self.before: Callable[[str, tuple[Any, ...]], object] = lambda name, arguments: None
        self.after: Callable[[str], object] = lambda name: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        return self._watched(found, name) if callable(found) else found

    @contextmanager
    def transaction(self) -> Iterator["Watched"]:
        """See `PersistenceProvider`."""
        with self._provider.transaction() as joined:
            inner = Watched(joined)
            inner.calls, inner.before, inner.after = self.calls, self.before, self.after
            yield inner

    def _watched(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            self.before(name, arguments)
            result = call(*arguments, **named)
            self.after(name)
            return result

        return run

    @property
    def saves(self) -> int:
        """How often workflows were saved."""
        return sum(name.startswith("persist_workflow") for name in self.calls)

    @property
    def loads(self) -> int:
        """How often workflows were loaded."""
        return sum(name.startswith("get_workflow_instance") for name in self.calls)


class World:
    """A store, a clock that a test sets, hosts, and what the steps have noted.

    What is suspended, resumed or terminated is timed by the store's own clock, which can be ahead of the test's.
    """

    def __init__(self, provider: Any, make: MakeHost, errors: Callable[[Any], list[ExecutionError]]) -> None:
        self.provider: Any = provider
        self.clock: ManualClock = ManualClock()
        self.notes: list[str] = []
        self._make, self._errors = make, errors

    def host(self, *definitions: WorkflowDefinition | WorkflowBuilder, provider: Any = None) -> Host:
        """A host that is not started, on the world's clock."""
        return self._made(definitions, provider, self.clock, LEASE)

    def running_host(
        self, *definitions: WorkflowDefinition | WorkflowBuilder, lease: float = LEASE, provider: Any = None
    ) -> Host:
        """A host for threads, by the real clock, that polls often. The test starts and stops it."""
        return self._made(definitions, provider, lambda: datetime.now(UTC), lease)

    def run(self, builder: WorkflowBuilder, data: Any = None, *, advance: bool = False) -> WorkflowInstance:
        """A new workflow, after everything that is due."""
        definition = builder.build()
        host = self.host(definition)
        id = host.start_workflow(definition.id, data)
        host.run_until_idle(advance=advance)
        return self.stored(id)

    def stored(self, id: str) -> WorkflowInstance:
        """The workflow as it is stored."""
        return cast(WorkflowInstance, self.provider.get_workflow_instance(id))

    def status(self, id: str) -> WorkflowStatus:
        """The workflow's status as it is stored."""
        return self.stored(id).status

    def pointers(self, id: str) -> dict[str | None, PointerStatus]:
        """The status of the last pointer of each step."""
        return {pointer.step_name: pointer.status for pointer in self.stored(id).execution_pointers}

    def errors(self, id: str) -> list[str]:
        """The texts of the workflow's errors, the newest first."""
        return [error.message for error in self._errors(self.provider) if error.workflow_id == id]

    def note(self, text: str) -> Callable[[StepContext], None]:
        """A step that notes this text, and the item it works on."""

        def step(context: StepContext) -> None:
            self.notes.append(text if context.item is None else f"{text} {context.item}")

        step.__name__ = text
        return step

    def failing(self, text: str, times: int = 1_000) -> Callable[[StepContext], None]:
        """A step that fails so many times, and then notes the text."""
        failures = iter(range(times))

        def step(context: StepContext) -> None:
            for _ in failures:
                raise RuntimeError(f"{text} failed on purpose")
            self.notes.append(text)

        step.__name__ = text
        return step

    def wait_until_noted(self, text: str, times: int = 1) -> None:
        """Wait until a host that was started has come so far."""
        eventually(lambda: self.notes.count(text) >= times)

    def wait_for(self, ids: Sequence[str], status: WorkflowStatus = WorkflowStatus.COMPLETE) -> None:
        """Wait until a host that was started has brought all of them there."""
        eventually(lambda: all(self.status(id) is status for id in ids))

    def _made(self, definitions: Sequence[Any], provider: Any, clock: Callable[[], datetime], lease: float) -> Host:
        built = [it.build() if isinstance(it, WorkflowBuilder) else it for it in definitions]
        return self._make(provider or self.provider, built, clock=clock, lease=lease, poll_interval=0.02)


@contextmanager
def started(*hosts: Host) -> Iterator[None]:
    """Start the hosts, and stop them at the end."""
    try:
        for host in hosts:
            host.start()
        yield
    finally:
        for host in hosts:
            host.stop(5)


class HostSuite:
    """Base class of the suite: override `provider` and `make_host` to test a host."""

    @pytest.fixture
    def provider(self) -> PersistenceProvider:
        """The provider that the host works on, on an empty store. Must be overridden."""
        raise NotImplementedError("override the fixture `provider` to return a provider on an empty store")

    @pytest.fixture
    def make_host(self) -> MakeHost:
        """What makes a host: see `MakeHost`. Must be overridden."""
        raise NotImplementedError("override the fixture `make_host` to return what makes a host")

    @pytest.fixture
    def world(self, provider: PersistenceProvider, make_host: MakeHost) -> World:
        """What the tests work with."""
        return World(provider, make_host, self.execution_errors)

    def execution_errors(self, provider: PersistenceProvider) -> list[ExecutionError]:
        """All stored errors, newest first. Override it if the provider has no method `get_execution_errors`."""
        return cast(Any, provider).get_execution_errors()  # type: ignore[no-any-return]
