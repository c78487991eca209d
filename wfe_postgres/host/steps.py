"""Runs a step and saves its result, in the host's transaction or without one."""

from collections.abc import Callable

from wfe_postgres.contract.errors import ConcurrencyError, WorkflowNotFoundError
from wfe_postgres.contract.models import ExecutionPointer
from wfe_postgres.host.context import StepContext
from wfe_postgres.host.definitions import Step, StepFunction
from wfe_postgres.host.environment import Environment, Middleware, Transaction
from wfe_postgres.host.executor import Executor
from wfe_postgres.host.outage import is_lost_connection, is_transient
from wfe_postgres.host.renewal import Claim
from wfe_postgres.host.results import ExecutionResult
from wfe_postgres.host.saving import LeaseLostError, store_joined, store_surely

Next = Callable[[], ExecutionPointer | None]
"""Claims the next step in the executor's instance, which is saved after that."""


class StepFailedError(Exception):
    """Raised from what the step has raised."""


class InterruptedTryError(Exception):
    """The transaction of a step was lost with its connection: the step is to be repeated. Its text says what it was."""


class StepRun:
    """One run of a step whose workflow is claimed."""

    def __init__(self, environment: Environment, executor: Executor, claim: Claim) -> None:
        self._env = environment
        self._executor = executor
        self._claim = claim

    def run(self, step: Step, claim_next: Next) -> ExecutionPointer | None:
        """Run the step, apply its result, claim the next step, and save all of it; returns the next step's pointer.

        Raises `StepFailedError`, `InterruptedTryError`, `LeaseLostError`, and what the store refuses for good.
        """
        if self._env.transaction is not None and step.transaction:
            return self._run_in(self._env.transaction, step, claim_next)
        following = self._result(step, self._context(), claim_next)
        store_surely(self._env, self._executor.instance, self._executor.changes)
        return following

    def _run_in(self, transaction: Transaction, step: Step, claim_next: Next) -> ExecutionPointer | None:
        context, entered, claimed, following = self._context(), False, None, None
        try:
            with transaction() as (context.provider, context.session):
                entered = True
                following = self._result(step, context, claim_next)
                claimed = self._executor.instance.revision
                store_joined(context.provider, self._executor.instance, self._executor.changes)
        except StepFailedError:
            raise
        except (ConcurrencyError, WorkflowNotFoundError):
            raise LeaseLostError from None
        except Exception as error:
            if claimed is None or not self._was_committed(claimed):
                lost = is_transient(error) or is_lost_connection(error)
                if lost or not (entered or isinstance(error, ValueError)):  # that one is from its definition
                    raise InterruptedTryError(_interruption(error, entered=entered)) from error
                raise
        return following

    def _result(self, step: Step, context: StepContext, claim_next: Next) -> ExecutionPointer | None:
        result = self._call(step, context)
        self._claim.release()
        if not self._env.holds(self._executor.instance.id):
            raise LeaseLostError
        self._executor.now = self._env.clock()
        self._executor.apply(self._claim.pointer, result)
        return claim_next()

    def _context(self) -> StepContext:
        claim, env, id = self._claim, self._env, self._executor.instance.id
        return StepContext(
            workflow=self._executor.instance,
            pointer=claim.pointer,
            now=self._env.clock(),
            provider=self._env.provider,
            definitions=self._env.definitions,
            is_cancelled=lambda: claim.is_over or env.stopping.is_set() or not env.holds(id),
        )

    def _call(self, step: Step, context: StepContext) -> ExecutionResult:
        """The step's result. Whatever it raises, but for KeyboardInterrupt, is a `StepFailedError`."""
        run = step.run
        for middleware in reversed(self._env.middleware):
            run = _around(middleware, run)
        try:
            result = run(context)
            if result is not None and not isinstance(result, ExecutionResult):
                raise TypeError(f"the step returned {type(result).__name__}, not an ExecutionResult or None")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise StepFailedError from error
        return result or ExecutionResult.next()

    def _was_committed(self, claimed: int) -> bool:
        """Whether the transaction took place although its end raised an error."""
        instance = self._executor.instance
        saved, instance.revision = instance.revision, claimed
        stored = self._env.outage.outlast(lambda: self._env.provider.get_workflow_instance(instance.id))
        if stored.revision != saved or saved == claimed:
            return False
        instance.revision = saved
        return True


def _interruption(error: BaseException, *, entered: bool) -> str:
    """What has happened to the transaction, by the types of the errors: their texts can hold the values of rows."""
    names, cause = [type(error).__name__], error.__cause__
    while cause is not None:
        names, cause = [*names, type(cause).__name__], cause.__cause__
    return f"its transaction {'was lost' if entered else 'could not begin'}: {', from '.join(names)}"


def _around(middleware: Middleware, run: StepFunction) -> StepFunction:
    return lambda context: middleware(context, run)
