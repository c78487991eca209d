"""For the tests of a project: a mixin that runs its workflows in the test."""

from typing import Any

from wfe_postgres.ext.django import conf, current, engines
from wfe_postgres.host import WorkflowHost
from wfe_postgres.testing.clock import ManualClock


class WorkflowTestMixin:
    """For a `TestCase` or `TransactionTestCase` of Django: put it before that in the bases of a test class.

    During a test `host()`, `provider()` and `using()` work in the transaction of a `TestCase`, so they see what the
    test has written and are rolled back with it. In a `TransactionTestCase` they have transactions of their own, and
    the store is emptied after each test. The clock stands still until the test moves it.

    Raises `RuntimeError` if that store is not in a test database: Django's runner makes none for tests that name no
    database in `databases`, such as those of a `SimpleTestCase`.
    """

    clock: ManualClock
    """The clock of the host; new in each test."""

    def run(self, result: Any = None) -> Any:
        """Run the test with a host of its own."""
        self.clock = ManualClock()
        is_rolled_back = current.in_atomic_block()
        if not (is_rolled_back or engines.is_test_database(conf.read().database)):
            raise RuntimeError(
                f"{type(self).__name__} would empty the store of a database that is no test database: derive it from "
                "TestCase or TransactionTestCase, with the store's database in `databases`, and use a test runner"
            )
        with current.replaced(lambda it: self._make_host(it, is_rolled_back)):
            try:
                return super().run(result)  # type: ignore[misc]
            finally:
                if not is_rolled_back:
                    current.provider().truncate_all()

    def run_until_idle(self, *, advance: bool = False) -> None:
        """Run all workflows that are due, in this thread. With `advance`, the clock jumps to the next alarm, too."""
        current.host().run_until_idle(advance=advance)

    def _make_host(self, workflows: current.Workflows, is_rolled_back: bool) -> WorkflowHost:
        store = current.joined() if is_rolled_back else workflows.provider
        return current.make_host(workflows.options, store, workflows.provider, queue=None, clock=self.clock)
