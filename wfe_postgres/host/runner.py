"""Runs one workflow: claims it, runs its steps, saves after each, and leaves it when nothing is ready."""

from contextlib import suppress

from wfe_postgres.contract.errors import ConcurrencyError, WorkflowNotFoundError
from wfe_postgres.contract.models import ExecutionPointer, WorkflowInstance, WorkflowStatus
from wfe_postgres.host.definitions import WorkflowDefinition
from wfe_postgres.host.environment import LOG, Environment
from wfe_postgres.host.executor import Executor
from wfe_postgres.host.failures import fail, lose, suspend_changed, suspend_failed
from wfe_postgres.host.pointers import milliseconds
from wfe_postgres.host.renewal import Claim, warn_lost
from wfe_postgres.host.saving import LeaseLostError, reload, store_surely
from wfe_postgres.host.steps import InterruptedTryError, StepFailedError, StepRun
from wfe_postgres.host.waits import deliver_earlier_events

_MAX_LOST = 5
"""A step whose process was killed, or lost its lease, so many times in a row has failed."""
_KILLED = "the host was killed, or its lease or its connection was lost"
_LONG = 0.5
"""Seconds of a step after which an event may have come that could not be delivered while it was running."""


def run_workflow(environment: Environment, id: str) -> bool:
    """Run what is due of the workflow. False: nothing is, or another host does. Raises `HostStoppedError`."""
    with environment.locked(id) as acquired:
        return acquired and _run_unlocked(environment, id)


def _run_unlocked(environment: Environment, id: str) -> bool:
    try:
        instance = environment.outage.outlast(lambda: environment.provider.get_workflow_instance(id))
    except WorkflowNotFoundError:
        return False
    definition = environment.definitions.get((instance.workflow_definition_id, instance.version))
    due = instance.next_execution
    is_due = due is not None and due <= milliseconds(environment.clock())
    if definition is None or not is_due or instance.status is not WorkflowStatus.RUNNABLE:
        return False
    run = _WorkflowRun(environment, instance, definition)
    with suppress(LeaseLostError):  # logged where the result of a step is lost
        run.run()
    return run.has_claimed


class _WorkflowRun:
    """One workflow in this host, from the claim until nothing is ready."""

    def __init__(self, environment: Environment, instance: WorkflowInstance, definition: WorkflowDefinition) -> None:
        self._env = environment
        self._definition = definition
        self._executor = Executor(instance, definition, environment.clock())
        self.has_claimed: bool = False
        self._looks_for_events = False
        """An event may have come before its subscription, or while a step was running."""
        self._holds = False
        """Nothing is ready, but until events have been looked for the workflow is stored as due after the lease."""

    def run(self) -> None:
        """Raises `LeaseLostError` when somebody else has changed the workflow."""
        pointer = self._claim()
        self.has_claimed = True
        while self._look_for_events() or pointer is not None:
            pointer = self._turn(pointer) if pointer is not None else self._save(self._next())
        if self._holds:
            self._let_go()

    def _claim(self) -> ExecutionPointer | None:
        """The first step, after the save by which no other host runs it."""
        instance = self._executor.instance
        if suspend_changed(self._executor):
            LOG.error("workflow %r is suspended: its definition was changed while it ran", instance.id)
            return self._save(None)
        if suspend_failed(self._executor):
            LOG.error("workflow %r is suspended: it has a failed step that was not resumed", instance.id)
            return self._save(None)
        self._lose()
        self._looks_for_events = True  # a host can have died before it looked, also if a step is ready now
        return self._save(self._next(looks=True))

    def _next(self, *, looks: bool = False) -> ExecutionPointer | None:
        """Claim the next step in the instance, which is to be saved. `looks`: look for events if nothing is ready."""
        executor = self._executor
        executor.now = self._env.clock()
        pointer = None
        if not self._env.stopping.is_set():
            pointer = executor.claim(self._env.lease)
        elif executor.instance.status is WorkflowStatus.RUNNABLE:
            executor.rest()
        self._looks_for_events |= bool(executor.changes.subscriptions) or (looks and pointer is None)
        self._holds = pointer is None and self._looks_for_events and self._is_runnable
        if self._holds:
            executor.hold(self._env.lease)
        return pointer

    def _turn(self, pointer: ExecutionPointer) -> ExecutionPointer | None:
        """Run the step, and save its result and the claim of the next one; returns that one's pointer."""
        executor = self._executor
        claim = self._env.leases.claim(executor.instance, pointer)
        error: BaseException | None = None
        reason = _KILLED
        try:
            following = StepRun(self._env, executor, claim).run(self._definition.step(pointer), self._next)
            self._looks_for_events |= claim.elapsed > _LONG
            return self._saved(following)
        except InterruptedTryError as interrupted:
            reason = str(interrupted)
        except LeaseLostError:
            if not claim.is_lost:
                warn_lost(executor.instance, pointer, claim.elapsed)
            raise
        except StepFailedError as failed:
            error = failed.__cause__
        except Exception as refused:
            error = refused
        finally:
            claim.release()
        return self._recover(claim, error, reason)

    def _recover(self, claim: Claim, error: BaseException | None, reason: str) -> ExecutionPointer | None:
        """Store the failure, with the workflow as it was claimed; without an error the try was lost."""
        claim.instance.revision, pointer = claim.revision, claim.pointer
        if not self._env.holds(claim.instance.id):
            warn_lost(claim.instance, pointer, claim.elapsed)
            raise LeaseLostError
        instance = reload(self._env.provider, claim.instance, self._env.outage)
        executor = self._executor = Executor(instance, self._definition, self._env.clock())
        self._looks_for_events = True
        if error is None:
            self._lose(reason)
        else:
            LOG.error(
                "workflow %r, step %r failed (try %d)",
                instance.id,
                pointer.step_name,
                pointer.retry_count + 1,
                exc_info=error,
            )
            fail(executor, next(it for it in instance.execution_pointers if it.id == pointer.id), error)
        return self._save(self._next())

    def _lose(self, reason: str = _KILLED) -> None:
        """Count the tries that were lost."""
        for pointer in lose(self._executor, _MAX_LOST, reason):
            id = self._executor.instance.id
            LOG.warning("workflow %r, step %r: a try was lost (%s)", id, pointer.step_name, reason)

    # Saves

    def _save(self, following: ExecutionPointer | None) -> ExecutionPointer | None:
        store_surely(self._env, self._executor.instance, self._executor.changes)
        return self._saved(following)

    def _saved(self, following: ExecutionPointer | None) -> ExecutionPointer | None:
        """Publish what is true now, and begin a new set of changes."""
        changes, instance = self._executor.changes, self._executor.instance
        self._executor = Executor(instance, self._definition, self._env.clock())
        for child in changes.children:
            self._env.hints.workflow_is_due(child.id)
        for event in changes.events:
            self._env.hints.event_is_due(event.id)
        self._env.hints.publish(changes.lifecycle)
        return following

    @property
    def _is_runnable(self) -> bool:
        return self._executor.instance.status is WorkflowStatus.RUNNABLE

    def _look_for_events(self) -> bool:
        """Give events that are there to the pointers that wait for them. False: there was none, or no need to look."""
        if not (self._looks_for_events and self._is_runnable):
            return False
        self._looks_for_events = False
        return self._env.outage.outlast(lambda: deliver_earlier_events(self._env.provider, self._executor))

    def _let_go(self) -> None:
        """No event was there: the workflow is due at its next alarm."""
        instance = self._executor.instance
        self._executor.rest()
        assert instance.revision is not None, "the workflow was saved"
        with suppress(ConcurrencyError, WorkflowNotFoundError):  # somebody has given it an event, or ended it
            self._env.provider.renew_workflow(instance.id, instance.revision, instance.next_execution)
