"""Many at once: threads that race for one thing, readers beside writers, hosts that share commands."""

import threading
from collections import Counter
from functools import partial

import pytest

from wfe_postgres.contract.errors import ConcurrencyError, PersistenceError, WorkflowExistsError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ScheduledCommand, WorkflowInstance
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    TIMEOUT,
    Conformance,
    at,
    command,
    created,
    event,
    from_now,
    has_subscription,
    pointer,
    race,
    results,
    state,
    subscription,
    workflow,
)

THREADS = 8


def _generation(number: int) -> list[tuple[str, int]]:
    """Which pointers a workflow of this generation has: ids and step ids, three to seven of them."""
    return [(f"{number % 2}-{index}", number) for index in range(3 + number % 5)]


def _become(instance: WorkflowInstance, number: int) -> None:
    instance.data = number
    instance.execution_pointers = [pointer(pointer_id, step_id=step) for pointer_id, step in _generation(number)]


def _is_one_generation(instance: WorkflowInstance) -> bool:
    return [(it.id, it.step_id) for it in instance.execution_pointers] == _generation(instance.data)


class RaceConformance(Conformance):
    """What holds however many threads use one provider at once."""

    def test_a_sequence_never_gives_a_number_twice(self, provider: PersistenceProvider) -> None:
        """Never the same number twice, however many ask at once."""

        def take() -> list[int]:
            return [provider.next_definition_sequence("order") for _ in range(10)]

        taken = [number for numbers in results(race([take] * THREADS)) for number in numbers]
        assert sorted(taken) == list(range(1, 10 * THREADS + 1))

    def test_one_of_many_creates(self, provider: PersistenceProvider) -> None:
        """Of many creations under one name one succeeds; the others get `WorkflowExistsError`."""
        rivals = [workflow(pointer("a"), data=number, name="wanted") for number in range(THREADS)]
        outcomes = race([partial(provider.create_new_workflow, it) for it in rivals])
        errors = [it.error for it in outcomes if it.error]
        assert len(errors) == THREADS - 1
        assert all(isinstance(error, WorkflowExistsError) for error in errors)
        [winner] = [rival for rival, it in zip(rivals, outcomes, strict=True) if not it.error]
        assert provider.get_workflow_instance_by_name("wanted") == winner
        assert provider.get_workflow_instances([it.id for it in rivals]) == [winner]

    def test_one_of_many_loads_is_saved(self, provider: PersistenceProvider) -> None:
        """Of many saves under one stamp one succeeds; the others get `ConcurrencyError`."""
        target = provider.create_new_workflow(workflow())
        for _ in range(5):
            loads = [provider.get_workflow_instance(target) for _ in range(THREADS)]
            for number, instance in enumerate(loads):
                instance.data = number
                instance.execution_pointers = [pointer(f"{number}-{n}") for n in range(number)]
            outcomes = race([partial(provider.persist_workflow, it) for it in loads])
            errors = [it.error for it in outcomes if it.error]
            assert len(errors) == THREADS - 1
            assert all(isinstance(error, ConcurrencyError) for error in errors)
            [winner] = [load for load, it in zip(loads, outcomes, strict=True) if not it.error]
            assert provider.get_workflow_instance(target) == winner

    def test_no_update_is_lost(self, provider: PersistenceProvider) -> None:
        """Who loads, changes, saves and starts again on `ConcurrencyError` overwrites nobody."""
        target = provider.create_new_workflow(workflow(data=0))

        def add(name: int) -> None:
            for turn in range(5):
                while True:
                    instance = provider.get_workflow_instance(target)
                    instance.data += 1
                    instance.execution_pointers.append(pointer(f"{name}-{turn}"))
                    try:
                        provider.persist_workflow(instance)
                    except ConcurrencyError:
                        continue
                    break

        results(race([partial(add, name) for name in range(THREADS)]))
        stored = provider.get_workflow_instance(target)
        assert stored.data == 5 * THREADS
        assert len(stored.execution_pointers) == 5 * THREADS + 2

    def test_unconditional_saves_are_not_mixed(self, provider: PersistenceProvider) -> None:
        """Of several complete saves at once the stored workflow is one, with its pointers and no other's."""
        target = provider.create_new_workflow(workflow(name="one"))

        def save(number: int) -> None:
            for turn in range(5):
                mine = workflow(id=target, name="one")
                _become(mine, 2 * number + turn)
                provider.persist_workflow(mine)

        results(race([partial(save, number) for number in range(THREADS)]))
        assert _is_one_generation(provider.get_workflow_instance(target))

    def test_a_load_is_one_snapshot(self, provider: PersistenceProvider) -> None:
        """Whoever reads while another writes sees one state, whole."""
        target = provider.create_new_workflow(workflow(*map(pointer, "abc"), name="one"))
        instance = provider.get_workflow_instance(target)
        _become(instance, 0)
        provider.persist_workflow(instance)
        ended = threading.Event()

        def write() -> None:
            try:
                for number in range(1, 60):
                    _become(instance, number)
                    provider.persist_workflow(instance)
            finally:
                ended.set()

        def read() -> list[WorkflowInstance]:
            loads = []
            while not ended.is_set():
                loads.append(provider.get_workflow_instance(target))
                loads.append(provider.get_workflow_instance_by_name("one"))
                loads.extend(provider.get_workflow_instances([target]))
            return loads

        _, *reads = results(race([write, read, read]))
        loads = [load for each in reads for load in each]
        assert all(map(_is_one_generation, loads))
        assert len({load.data for load in loads}) > 1, "the readers have seen more than one state"

    def test_one_of_many_gets_the_token(self, provider: PersistenceProvider) -> None:
        """Of any number of callers racing for an open subscription exactly one gets True."""
        for expired in (False, True, False, True):
            target = provider.create_event_subscription(subscription())
            if expired:
                provider.set_subscription_token(target, "dead", "dead", from_now(-60))
            expiry = from_now(3600)
            tokens = [f"token-{number}" for number in range(16)]
            calls = [partial(provider.set_subscription_token, target, it, f"of {it}", expiry) for it in tokens]
            answers = results(race(calls))
            assert Counter(answers) == {True: 1, False: 15}
            winner = tokens[answers.index(True)]
            held = provider.get_subscription(target)
            assert (held.external_token, held.external_worker_id) == (winner, f"of {winner}")

    def test_open_subscriptions_are_shared(self, provider: PersistenceProvider) -> None:
        """Threads that take what is open until nothing is take each subscription once."""
        ids = [provider.create_event_subscription(subscription()) for _ in range(20)]
        expiry = from_now(3600)

        def drain(name: int) -> list[str]:
            mine = []
            while it := provider.get_first_open_subscription("paid", "order-1", at(0)):
                if provider.set_subscription_token(it.id, f"{name}", "worker", expiry):
                    mine.append(it.id)
            return mine

        taken = [taken_id for mine in results(race([partial(drain, n) for n in range(THREADS)])) for taken_id in mine]
        assert sorted(taken) == sorted(ids)

    def test_many_schedule_one_command(self, provider: PersistenceProvider) -> None:
        """An upsert from many threads leaves one command, at a time that one of them asked for."""

        def schedule(second: int) -> None:
            for turn in range(5):
                provider.schedule_command(command("one", second + turn))

        results(race([partial(schedule, 10 * number) for number in range(THREADS)]))
        handled = Recorder()
        assert provider.process_commands(at(999), handled) == 1
        assert handled.seen[0] in [command("one", 10 * n + 4) for n in range(THREADS)]

    def test_two_hosts_share_the_commands(self, provider: PersistenceProvider) -> None:
        """A few at a time: both get some, none is handled by two, and the results add up."""
        names = [f"{number:03}" for number in range(100)]
        for number, name in enumerate(names):
            provider.schedule_command(command(name, number))
        both = threading.Barrier(2)

        def host() -> tuple[int, list[str]]:
            handled = Recorder()

            def handle(it: ScheduledCommand) -> None:
                if not handled.seen:
                    both.wait(TIMEOUT)
                handled(it)

            return provider.process_commands(at(999), handle), handled.data

        shares = results(race([host, host]))
        assert sorted(name for _, mine in shares for name in mine) == names
        assert all(count == len(mine) > 0 for count, mine in shares)
        assert provider.process_commands(at(999), never) == 0

    def test_threads_boot_at_once(self, provider: PersistenceProvider) -> None:
        """`ensure_store_exists` may be called by any number at once."""
        assert results(race([provider.ensure_store_exists] * 4)) == [None] * 4

    def test_an_id_is_stored_once(self, provider: PersistenceProvider) -> None:
        """An event or subscription whose id is already stored is a `PersistenceError` with its constraint."""
        happened, waiting = event(), subscription()
        provider.create_event(happened)
        provider.create_event_subscription(waiting)
        with pytest.raises(PersistenceError) as caught:
            provider.create_event(event(id=happened.id, event_data="other"))
        assert caught.value.constraint
        with pytest.raises(PersistenceError) as caught:
            provider.create_event_subscription(subscription(id=waiting.id, step_id=2))
        assert caught.value.constraint
        assert provider.get_event(happened.id) == happened
        assert provider.get_subscription(waiting.id) == waiting

    def test_a_save_does_not_take_anothers_name(self, provider: PersistenceProvider) -> None:
        """Names are unique: a save under another workflow's name is an error, and nothing is written."""
        provider.create_new_workflow(workflow(name="taken"))
        instance = created(provider, workflow(name="mine"))
        stored = provider.get_workflow_instance(instance.id)
        instance.name, instance.data = "taken", "changed"
        before = state(instance)
        with pytest.raises(PersistenceError) as caught:
            provider.persist_workflow(instance)
        assert caught.value.constraint
        assert state(instance) == before
        assert provider.get_workflow_instance_by_name("mine") == stored

    def test_a_subscription_that_is_stored_stops_the_save(self, provider: PersistenceProvider) -> None:
        """One transaction: when a subscription's id is taken, workflow and other subscriptions stay unsaved."""
        taken = subscription()
        provider.create_event_subscription(taken)
        instance = created(provider, workflow())
        stored = provider.get_workflow_instance(instance.id)
        instance.data = "changed"
        instance.execution_pointers.pop(0)
        empty, rival = subscription(id="", event_key="other"), subscription(id=taken.id, step_id=2)
        before = state(instance)
        with pytest.raises(PersistenceError) as caught:
            provider.persist_workflow_with_subscriptions(instance, [empty, rival])
        assert caught.value.constraint
        assert (state(instance), empty.id) == (before, "")
        assert provider.get_workflow_instance(instance.id) == stored
        assert provider.get_subscriptions("paid", "other", at(0)) == []
        assert provider.get_subscription(taken.id) == taken
        provider.persist_workflow_with_subscriptions(instance, [empty])
        assert provider.get_workflow_instance(instance.id) == instance
        assert has_subscription(provider, empty.id)
