"""Ways to break claims, failures, verbs, definitions and outages of `WorkflowHost`, for pytest's `monkeypatch`."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from wfe_postgres.contract.models import PointerStatus, WorkflowStatus
from wfe_postgres.host import (
    ExecutionResult,
    Retry,
    StepContext,
    WorkflowClient,
    failures,
    runner,
    saving,
    steps,
)
from wfe_postgres.host.definitions import Definitions
from wfe_postgres.host.executor import Executor
from wfe_postgres.host.renewal import Claim
from wfe_postgres.host.scheduler import Scheduler
from wfe_postgres.host.steps import StepRun
from wfe_postgres.host.threads import Threads

Patch = pytest.MonkeyPatch
Run = runner._WorkflowRun


def nothing(*_: Any, **__: Any) -> None:
    """Does nothing."""


def claims_nothing(patch: Patch) -> None:
    """The first save, which claims the workflow, is left out."""
    patch.setattr(Run, "_claim", lambda self: self._next(looks=True))


def saves_without_revision(patch: Patch) -> None:
    """Writes over whatever others have saved."""
    original = saving.store

    def store(provider: Any, instance: Any, changes: Any) -> None:
        instance.revision = None
        original(provider, instance, changes)

    patch.setattr(saving, "store", store)


def saves_twice(patch: Patch) -> None:
    """Saves each result, and then the next claim."""
    original = saving.store

    def store(provider: Any, instance: Any, changes: Any) -> None:
        original(provider, instance, changes)
        provider.persist_workflow(instance)

    patch.setattr(saving, "store", store)


def loads_for_each_step(patch: Patch) -> None:
    """Loads the workflow again before each step."""
    original = StepRun._call

    def call(self: Any, *arguments: Any) -> Any:
        self._env.provider.get_workflow_instance(self._executor.instance.id)
        return original(self, *arguments)

    patch.setattr(StepRun, "_call", call)


def renews_nothing(patch: Patch) -> None:
    """Leases are not renewed."""
    patch.setattr(Claim, "keep", nothing)


def keeps_what_a_failed_step_changed(patch: Patch) -> None:
    """The instance is not loaded again after a failure."""
    patch.setattr(runner, "reload", lambda provider, instance, outage: instance)


def stores_no_errors(patch: Patch) -> None:
    """Failures leave no `ExecutionError`."""
    patch.setattr(failures, "report", nothing)


def retries_at_once(patch: Patch) -> None:
    """Retries do not wait."""
    original = Retry.delay
    patch.setattr(Retry, "delay", lambda self, retry: original(self, retry) and 0)


def never_suspends(patch: Patch) -> None:
    """Goes on after a failed step, as if it had ended."""
    patch.setattr(failures, "_stop", nothing)


def terminates_nothing(patch: Patch) -> None:
    """Treats Terminate as Suspend."""
    patch.setattr(Executor, "end", lambda self, status: failures._stop(self))


def trusts_who_made_it_runnable(patch: Patch) -> None:
    """A Runnable workflow has no failed steps, it thinks."""
    patch.setattr(runner, "suspend_failed", lambda executor: False)


def catches_exceptions_only(patch: Patch) -> None:
    """What is no `Exception` ends the host."""

    def call(self: Any, step: Any, context: StepContext) -> Any:
        try:
            return step.run(context) or ExecutionResult.next()
        except Exception as error:
            raise steps.StepFailedError from error

    patch.setattr(StepRun, "_call", call)


def writes_errors_as_they_are(patch: Patch) -> None:
    """The error's text is not made storable."""
    patch.setattr(failures, "message_of", str)


def counts_no_lost_tries(patch: Patch) -> None:
    """A step that kills its host is repeated without a trace."""

    def lose(executor: Executor, _: int) -> list[Any]:
        for pointer in executor.instance.execution_pointers:
            if pointer.status is PointerStatus.RUNNING:
                pointer.status = PointerStatus.PENDING
        return []

    patch.setattr(runner, "lose", lose)


def resumes_nothing_but_the_status(patch: Patch) -> None:
    """A resumed workflow keeps its failed pointers."""
    _sets_status(patch, "resume_workflow", WorkflowStatus.RUNNABLE)


def terminates_the_status_only(patch: Patch) -> None:
    """Subscriptions and alarms of a terminated workflow stay."""
    _sets_status(patch, "terminate_workflow", WorkflowStatus.TERMINATED)


def _sets_status(patch: Patch, verb: str, status: WorkflowStatus) -> None:
    def change(self: Any, id: str, **_: Any) -> bool:
        instance = self.provider.get_workflow_instance(id)
        instance.status = status
        self.provider.persist_workflow(instance)
        return True

    patch.setattr(WorkflowClient, verb, change)


def polls_for_everything(patch: Patch) -> None:
    """Unknown definitions fill the page."""
    patch.setattr(Definitions, "keys", lambda self: None)


def begins_in_the_lowest_version(patch: Patch) -> None:
    """The version is the lowest."""
    patch.setattr("wfe_postgres.host.definitions.max", min, raising=False)


def replaces_definitions(patch: Patch) -> None:
    """The second definition of an id and version replaces the first."""

    def add(self: Any, definition: Any) -> None:
        self._known = {**self._known, (definition.id, definition.version): definition}

    patch.setattr(Definitions, "add", add)


def starts_unknown_definitions(patch: Patch) -> None:
    """Takes any definition for one that it does not know."""
    patch.setattr(Definitions, "find", lambda self, *_: next(iter(self.values())))


def runs_changed_definitions(patch: Patch) -> None:
    """Runs the step that has the number now."""
    patch.setattr(runner, "suspend_changed", lambda executor: False)


def gives_up_a_save(patch: Patch) -> None:
    """A save that meets an outage has failed."""
    patch.setattr(saving, "is_transient", lambda error: False)


def repeats_a_save_that_was_committed(patch: Patch) -> None:
    """Does not look whether a save whose answer was lost has been committed."""

    def store(provider: Any, instance: Any, changes: Any, outage: Any) -> None:
        claimed = instance.revision
        try:
            saving.store(provider, instance, changes)
        except Exception:
            instance.revision = claimed
            raise

    for module in (runner, steps):
        patch.setattr(module, "store_surely", store)


def ends_at_what_cannot_be_read(patch: Patch) -> None:
    """One workflow that cannot be read ends the turn of all."""
    patch.setattr(Scheduler, "do", lambda self, item: runner.run_workflow(self._env, item[1]))


def goes_on_after_stop(patch: Patch) -> None:
    """Begins the next step while it is stopping."""
    original = Run._next

    def following(self: Any, **options: Any) -> Any:
        environment = self._env
        self._env = SimpleNamespace(**{**vars(environment), "stopping": threading.Event()})
        try:
            return original(self, **options)
        finally:
            self._env = environment

    patch.setattr(Run, "_next", following)


def polls_once(patch: Patch) -> None:
    """Looks for work at its start only."""

    def poll(self: Any) -> None:
        self._scheduler.poll()

    patch.setattr(Threads, "_poll", poll)


def says_that_each_verb_worked(patch: Patch) -> None:
    """The verbs return True."""
    patch.setattr(WorkflowClient, "_changed", lambda self, *_: True)


def invents_workflows(patch: Patch) -> None:
    """The verbs know every workflow."""
    for verb in ("suspend", "resume", "terminate"):
        patch.setattr(WorkflowClient, f"{verb}_workflow", lambda self, *_, **__: False)
