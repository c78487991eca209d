"""Concurrency: competing threads, readers and writers, and hosts that share commands."""

import threading
import time
from collections import Counter
from functools import partial

from wfe_postgres.contract.errors import ConcurrencyError, WorkflowExistsError
from wfe_postgres.contract.interfaces import PersistenceProvider
from wfe_postgres.contract.models import ScheduledCommand, WorkflowInstance
from wfe_postgres.testing.conformance.commands import Recorder, never
from wfe_postgres.testing.conformance.support import (
    TIMEOUT,
    at,
    command,
    from_now,
    pointer,
    race,
    results,
    subscription,
    workflow,
)
from wfe_postgres.testing.conformance.uniqueness import UniquenessConformance

THREADS = 8


def _generation(number: int) -> list[tuple[str, int]]:
    """The ids and step ids of the three to seven pointers in this generation of the workflow."""
    return [(f"{number % 2}-{index}", number) for index in range(3 + number % 5)]


def _become(instance: WorkflowInstance, number: int) -> None:
    instance.data = number
    instance.execution_pointers = [pointer(pointer_id, step_id=step) for pointer_id, step in _generation(number)]


def _is_one_generation(instance: WorkflowInstance) -> bool:
    return [(it.id, it.step_id) for it in instance.execution_pointers] == _generation(instance.data)


class RaceConformance(UniquenessConformance):
    """Concurrent use of one provider by several threads, and unique constraints."""

    def test_a_sequence_never_gives_a_number_twice(self, provider: PersistenceProvider) -> None:
        """Concurrent calls never return the same number."""

        def take() -> list[int]:
            return [provider.next_definition_sequence("order") for _ in range(10)]

        taken = [number for numbers in results(race([take] * THREADS)) for number in numbers]
        assert sorted(taken) == list(range(1, 10 * THREADS + 1))

    def test_one_of_many_creates(self, provider: PersistenceProvider) -> None:
        """Of concurrent creations with one name, one succeeds; the others raise `WorkflowExistsError`."""
        rivals = [workflow(pointer("a"), data=number, name="wanted") for number in range(THREADS)]
        outcomes = race([partial(provider.create_new_workflow, it) for it in rivals])
        errors = [it.error for it in outcomes if it.error]
        assert len(errors) == THREADS - 1
        assert all(isinstance(error, WorkflowExistsError) for error in errors)
        [winner] = [rival for rival, it in zip(rivals, outcomes, strict=True) if not it.error]
        assert provider.get_workflow_instance_by_name("wanted") == winner
        assert provider.get_workflow_instances([it.id for it in rivals]) == [winner]

    def test_one_of_many_loads_is_saved(self, provider: PersistenceProvider) -> None:
        """Of concurrent saves with the same revision, one succeeds; the others raise `ConcurrencyError`."""
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
        """With a retry on `ConcurrencyError`, no update is lost."""
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
        """After concurrent unconditional saves, the stored workflow and its pointers are those of one save."""
        target = provider.create_new_workflow(workflow(name="one"))

        def save(number: int) -> None:
            for turn in range(5):
                mine = workflow(id=target, name="one")
                _become(mine, 2 * number + turn)
                provider.persist_workflow(mine)

        results(race([partial(save, number) for number in range(THREADS)]))
        assert _is_one_generation(provider.get_workflow_instance(target))

    def test_a_load_is_one_snapshot(self, provider: PersistenceProvider) -> None:
        """A load during concurrent saves returns one consistent state."""
        target = provider.create_new_workflow(workflow(*map(pointer, "abc"), name="one"))
        instance = provider.get_workflow_instance(target)
        _become(instance, 0)
        provider.persist_workflow(instance)
        ended = threading.Event()
        seen: list[set[int]] = [set(), set()]

        def write() -> None:
            number, deadline = 0, time.monotonic() + TIMEOUT / 2
            try:
                while number < 60 or (min(map(len, seen)) < 2 and time.monotonic() < deadline):
                    number += 1
                    _become(instance, number)
                    provider.persist_workflow(instance)
            finally:
                ended.set()

        def read(generations: set[int]) -> list[WorkflowInstance]:
            loads = []
            while not ended.is_set():
                loads.append(provider.get_workflow_instance(target))
                loads.append(provider.get_workflow_instance_by_name("one"))
                loads.extend(provider.get_workflow_instances([target]))
                generations.update(load.data for load in loads[-3:])
            return loads

        _, *reads = results(race([write, *(partial(read, it) for it in seen)]))
        assert all(_is_one_generation(load) for each in reads for load in each)
        assert min(map(len, seen)) > 1, "a reader saw only one state"

    def test_one_of_many_gets_the_token(self, provider: PersistenceProvider) -> None:
        """Exactly one of several callers obtains the token of an open subscription."""
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
        """Threads that take open subscriptions until none is left obtain each one exactly once."""
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
        """Concurrent upserts leave one command, with the `execute_time` of one of the calls."""

        def schedule(second: int) -> None:
            for turn in range(5):
                provider.schedule_command(command("one", second + turn))

        results(race([partial(schedule, 10 * number) for number in range(THREADS)]))
        handled = Recorder()
        assert provider.process_commands(at(999), handled) == 1
        assert handled.seen[0] in [command("one", 10 * n + 4) for n in range(THREADS)]

    def test_two_hosts_share_the_commands(self, provider: PersistenceProvider) -> None:
        """Both hosts handle some commands, no command is handled twice, and the results add up."""
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
        """`ensure_store_exists` can be called concurrently."""
        assert results(race([provider.ensure_store_exists] * 4)) == [None] * 4
