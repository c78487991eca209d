"""A workflow run by hosts that die at random moments while events come at random moments."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate
from threading import get_ident
from typing import Any
from uuid import uuid4

from hypothesis import strategies as some

from tests.host_properties.building import Builder, definition_id, event_key, new_data
from tests.host_properties.interpreter import Observed, Published
from tests.host_properties.programs import Branch
from wfe_postgres import WorkflowInstance, WorkflowStatus
from wfe_postgres.host import StepContext, WorkflowHost
from wfe_postgres.testing import ManualClock

LEASE = 30.0
"""Seconds."""

MOST_TICKS = 2_000
"""More than any run has."""

OLDER, FRESH, RESTED, LATE = "before the start", "after the start", "after the first rest", "after the last alarm"
"""When an event is published; a number instead: at this tick, in the middle of whatever the host does."""


class Died(KeyboardInterrupt):
    """The process has died here. (A host may not handle a KeyboardInterrupt.)"""


class Runaway(KeyboardInterrupt):
    """The host runs without an end."""


@dataclass(frozen=True)
class Case:
    """A program, when events are published (key and moment, in this order), and the ticks at which hosts die.

    A tick is the begin or end of a write or of a transaction, or the begin of a step. `rivals`: the ticks at which
    another host does whatever it finds to do.
    """

    program: Branch
    events: tuple[tuple[str, str | int], ...] = ()
    deaths: tuple[int, ...] = ()
    rivals: tuple[int, ...] = ()


def cases(programs: some.SearchStrategy[Branch], deaths: int = 4, rivals: int = 0) -> some.SearchStrategy[Case]:
    """Cases of these programs. A host loses one step less often than the host gives up (five times)."""
    early = some.sampled_from([OLDER, FRESH])
    late = some.one_of(early, some.sampled_from([RESTED, LATE]), some.integers(1, 60))
    # Whether a wait with a timeout gets its event is decided before it begins.
    event = some.one_of(some.tuples(some.sampled_from(["k0", "k0", "k1"]), late), some.tuples(some.just("t0"), early))
    return some.builds(
        Case,
        programs,
        some.lists(event, min_size=1, max_size=8).map(tuple),
        some.lists(some.integers(1, 25), max_size=deaths).map(lambda gaps: tuple(accumulate(gaps))),
        some.lists(some.integers(1, 80), max_size=rivals, unique=True).map(tuple),
    )


@dataclass
class Life:
    """Counts ticks, and calls what is due at one. The process is dead until `revive` from the tick at which it died."""

    deaths: tuple[int, ...]
    at_tick: Callable[[int], None]
    ticks: int = 0
    is_dead: bool = False
    is_paused: bool = False
    in_transaction: int = 0
    created: list[str] = field(default_factory=list)
    """The ids of the sub-workflows that were created, or would have been, had the transaction been committed."""
    thread: int = field(default_factory=get_ident)

    def tick(self) -> None:
        """Go on, or die."""
        self.check()
        if self.is_paused or get_ident() != self.thread:
            return
        self.ticks += 1
        if self.ticks > MOST_TICKS:
            raise Runaway
        if not self.in_transaction:
            self.at_tick(self.ticks)
        if self.ticks in self.deaths:
            self.is_dead = True
        self.check()

    def check(self) -> None:
        """A dead process does nothing."""
        if self.is_dead:
            raise Died


@contextmanager
def mortal(life: Life, transaction: AbstractContextManager[Any]) -> Iterator[Any]:
    """The transaction in a process that can die before and after its begin and its commit."""
    life.tick()
    life.in_transaction += 1
    try:
        with transaction as entered:
            yield entered
            life.tick()
    finally:
        life.in_transaction -= 1
    life.tick()


class MortalProvider:
    """A provider in a process that can die before and after each write."""

    def __init__(self, provider: Any, life: Life) -> None:
        self._provider = provider
        self.life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        if not callable(found):
            return found
        return self._alive(found) if name.startswith(("get_", "find_")) else self._mortal(found)

    def create_new_workflow(self, instance: WorkflowInstance) -> str:
        """See `WorkflowRepository`."""
        id: str = self._mortal(self._provider.create_new_workflow)(instance, then=self.life.created.append)
        return id

    def using(self, session: Any) -> "MortalProvider":
        """See `TransactionalProvider`."""
        return MortalProvider(self._provider.using(session), self.life)

    @contextmanager
    def transaction(self) -> Iterator["MortalProvider"]:
        """See `PersistenceProvider`."""
        with mortal(self.life, self._provider.transaction()) as provider:
            yield MortalProvider(provider, self.life)

    def _alive(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self.life.check()
            return call(*arguments, **named)

        return run

    def _mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, then: Callable[[Any], None] = lambda result: None, **named: Any) -> Any:
            self.life.tick()
            result = call(*arguments, **named)
            then(result)
            self.life.tick()
            return result

        return run


class World:
    """What is around one case. `transaction` gives the host of such a provider its `transaction`."""

    def __init__(
        self,
        case: Case,
        provider: Any,
        clock: ManualClock,
        transaction: Callable[[MortalProvider], Any] = lambda provider: None,
        record: Callable[[StepContext, str], None] = lambda context, token: None,
    ) -> None:
        self.case, self.provider, self.clock = case, provider, clock
        self.effects: Counter[str] = Counter()
        self.events: list[Published] = []
        self.died = 0
        self.tag = uuid4().hex[:8]
        self.life = Life(case.deaths, self._meanwhile)
        self._transaction, self._record = transaction, record
        self._builder = Builder(self.tag, self.life.tick, self._took_effect)
        self._builder.build(case.program)
        self._client = self._host(provider)

    def run(self) -> "World":
        """Start the workflow, and let hosts work and die until nothing is due."""
        self._publish_at(OLDER)
        self.clock.advance_to(self.clock() + timedelta(seconds=1))
        self.id = self._client.start_workflow(definition_id(self.tag, 0), new_data("", ""))
        self._publish_at(FRESH)
        self._work(advance=False)
        self._publish_at(RESTED)
        self._work(advance=True)
        self._publish_at(LATE)
        self._publish_at(MOST_TICKS)
        self._work(advance=True)
        return self

    def resume(self, *, skip_failed: bool) -> bool:
        """Resume all that is suspended, and let hosts work again; whether there was something to resume."""
        suspended = [it.id for it in self.instances() if it.status is WorkflowStatus.SUSPENDED]
        for id in suspended:
            assert self._client.resume_workflow(id, skip_failed=skip_failed)
        self._work(advance=True)
        return bool(suspended)

    def instances(self) -> list[WorkflowInstance]:
        """The workflow and its sub-workflows as they are stored, in the order of their creation."""
        found: list[WorkflowInstance] = self.provider.get_workflow_instances(
            [self.id, *dict.fromkeys(self.life.created)]
        )
        return found

    def runs(self, *, skips: bool = False) -> Iterator[tuple[Branch, Observed]]:
        """For the workflow and each sub-workflow: its program, and what the interpreter is asked about."""
        instances = self.instances()
        in_any_order = bool(self.died or self.case.rivals)
        for it in instances:
            children: dict[tuple[int, str], list[WorkflowStatus]] = {}
            for child in instances:
                if child.data["parent"] == it.id:
                    children.setdefault((_node(child), child.data["path"]), []).append(child.status)
            log, path = tuple(it.data["log"]), it.data["path"]
            program = self._builder.programs[_node(it)]
            yield program, Observed(log, it.status, tuple(self.events), children, path, skips, in_any_order)

    def _meanwhile(self, tick: int) -> None:
        """What others do while the host is at this tick."""
        self._publish_at(tick)
        if tick in self.case.rivals:
            self.life.is_paused = True
            self._host(MortalProvider(self.provider, self.life)).run_until_idle()
            self.life.is_paused = False

    def _publish_at(self, moment: str | int) -> None:
        """Publish the events of this moment, or of this tick and those before."""
        for number, (key, when) in enumerate(self.case.events):
            label = f"e{number}"
            is_due = when == moment or (isinstance(when, int) and isinstance(moment, int) and when <= moment)
            if is_due and label not in {it.id for it in self.events}:
                self.clock.advance_to(self.clock() + timedelta(milliseconds=1))
                self.events.append(Published(label, key, moment == OLDER))
                id = f"{self.tag}-{label}"
                self._client.publish_event("happened", event_key(self.tag, key), label, event_id=id)

    def _work(self, *, advance: bool) -> None:
        while True:
            host = self._host(MortalProvider(self.provider, self.life))
            try:
                host.run_until_idle(advance=advance)
            except Died:
                self.life.is_dead = False
                self.died += 1
                self.clock.advance_to(self.clock() + timedelta(seconds=2 * LEASE))
            except Runaway:
                raise AssertionError(f"the host still runs after {MOST_TICKS} ticks") from None
            else:
                return

    def _host(self, provider: Any) -> WorkflowHost:
        transaction = self._transaction(provider) if isinstance(provider, MortalProvider) else None
        return WorkflowHost(provider, self._builder.definitions, transaction=transaction, lease=LEASE, clock=self.clock)

    def _took_effect(self, context: StepContext, token: str) -> None:
        self.effects[token] += 1
        self._record(context, token)


def _node(instance: WorkflowInstance) -> int:
    return int(instance.workflow_definition_id.rpartition("-")[2])
