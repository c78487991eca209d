"""Finds what is due, and has it done by threads; each id by one thread at a time."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from wfe_postgres.contract.errors import WfeError
from wfe_postgres.contract.models import ScheduledCommand
from wfe_postgres.host.delivery import Delivery
from wfe_postgres.host.environment import LOG, Environment
from wfe_postgres.host.outage import HostStoppedError, is_transient
from wfe_postgres.host.pointers import EPOCH
from wfe_postgres.host.runner import run_workflow
from wfe_postgres.host.work import Item, Kind, Work

_END = datetime(9000, 1, 1, tzinfo=UTC)


class Scheduler:
    """Polls the store, and does what is due."""

    def __init__(self, environment: Environment, work: Work, page: int) -> None:
        self._env = environment
        self._work = work
        self._page = page
        self._delivery = Delivery(environment)
        self._failed: set[Item] = set()

    def poll(self, *, scattered: bool = False) -> bool:
        """Add what is due, by three queries. True: something was done, or there may be more.

        `scattered`: beginning at a random place, so that hosts which are given the same list do not try to claim the
        same workflows. All of the list is added, so the first ones are not kept waiting for longer than that takes.

        Raises `PersistenceError`.
        """
        now = self._env.clock()
        handled = self._process_commands(now)
        limit = self._page + len(self._failed)  # what cannot be done stays due, and must not fill the page
        events = self._env.provider.get_runnable_events(now, limit)
        workflows = self._env.provider.get_runnable_instances(now, limit, definitions=self._env.definitions.keys())
        items = [(Kind.EVENT, id) for id in _turned(events, scattered)]
        items += [(Kind.WORKFLOW, id) for id in _turned(workflows, scattered)]
        if max(len(events), len(workflows)) < limit:
            for gone in set(self._failed).difference(items):
                self._failed.discard(gone)
        added = [self._work.add(item, again=False) for item in items]
        return bool(handled) or (any(added) and max(len(events), len(workflows)) >= limit)

    def run_once(self) -> bool:
        """Poll, and do what is due in this thread. False: nothing could be done."""
        done = self.poll()
        while (item := self._work.take(0)) is not None:
            done = self.do(item) or done
        return done

    def do(self, item: Item) -> bool:
        """Do it. False: it was not done. That keeps no other from its turn, and is logged once."""
        kind, id = item
        try:
            done = self._delivery.process_event(id) if kind is Kind.EVENT else run_workflow(self._env, id)
            self._failed.discard(item)
            return done
        except HostStoppedError:
            return False
        except Exception as error:
            if item not in self._failed:
                self._failed.add(item)
                LOG.error("%s %r is left until the next poll: %s", kind.value, id, error, exc_info=_unexpected(error))
            return False
        finally:
            self._work.done(item)

    def next_alarm(self) -> datetime | None:
        """When something that this host can do is due next. What is due already, and stays, is not."""
        provider, now, known = self._env.provider, self._env.clock(), self._env.definitions.keys()
        times = [time for time in self._command_times() if time > now]
        times += _next_time(now, lambda to: provider.get_runnable_instances(to, definitions=known), self._due_time)
        times += _next_time(now, provider.get_runnable_events, lambda it: provider.get_event(it).event_time)
        return min(times, default=None)

    def _due_time(self, id: str) -> datetime:
        return _time(self._env.provider.get_workflow_instance(id).next_execution or 0)

    def _command_times(self) -> list[datetime]:
        """When the commands are due; they stay in place, because the handler raises."""
        times: list[datetime] = []

        def look(command: ScheduledCommand) -> None:
            if not self._delivery.is_stuck(command):
                times.append(_time(command.execute_time))
            raise LookupError("the command is left in place")

        with suppress(ExceptionGroup):
            if self._env.provider.supports_scheduled_commands:
                self._env.provider.process_commands(_END, look)
        return times

    def _process_commands(self, now: datetime) -> int:
        if not self._env.provider.supports_scheduled_commands:
            return 0
        try:
            return self._env.provider.process_commands(now, self._delivery.carry_out)
        except ExceptionGroup as failures:
            for error in failures.exceptions:
                if not is_transient(error):
                    LOG.error("a command is left until the next poll: %s", error, exc_info=_unexpected(error))
            return 0


def _turned(ids: list[str], scattered: bool) -> list[str]:
    """The ids, beginning at a random one if `scattered`."""
    first = random.randrange(len(ids)) if scattered and ids else 0
    return ids[first:] + ids[:first]


def _time(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def _next_time(
    now: datetime, due: Callable[[datetime], list[str]], time_of: Callable[[str], datetime]
) -> list[datetime]:
    """The time of the first that is due after now and can be read."""
    before = set(due(now))
    for id in due(_END):
        if id not in before:
            with suppress(WfeError):
                return [time_of(id)]
    return []


def _unexpected(error: BaseException) -> BaseException | None:
    """The error, if its traceback says more than its text."""
    return None if isinstance(error, WfeError) else error
