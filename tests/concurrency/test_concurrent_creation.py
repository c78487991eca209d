"""Of many concurrent creations with the same id or name exactly one succeeds, and its values are stored."""

from collections import Counter
from functools import partial
from typing import Any

import pytest

from tests.concurrency.support import run_in_threads
from tests.conftest import InProcesses, Sql
from wfe_postgres import EventExistsError, PostgresPersistenceProvider, WorkflowExistsError, WorkflowInstance
from wfe_postgres.testing.conformance.support import event, pointer, race, results, state, workflow

THREADS = 64
ROUNDS = 4
FOREIGN_POINTERS = """
    SELECT p.id FROM wfc.execution_pointers p JOIN wfc.workflows w ON w.id = p.workflow_id
    WHERE to_jsonb(p.step_id) <> w.data
"""


def rival(number: int, common: dict[str, str]) -> WorkflowInstance:
    """A workflow with the given fields in common with the others, and pointers that identify its creator."""
    pointers = [pointer(f"{number}-{index}", step_id=number) for index in range(2 + number % 3)]
    return workflow(*pointers, data=number, **common)


@pytest.mark.parametrize("same", [("id",), ("name",), ("id", "name")])
def test_concurrent_creation_by_threads_succeeds_once(
    provider: PostgresPersistenceProvider, sql: Sql, same: tuple[str, ...]
) -> None:
    """The other threads get `WorkflowExistsError` with their own id, and their objects are not modified."""
    for turn in range(ROUNDS):
        common = {field: f"{field} {turn}" for field in same}
        rivals = [rival(number, common) for number in range(THREADS)]
        names = [it.name for it in rivals]
        outcomes = race([partial(provider.create_new_workflow, it) for it in rivals])
        [winner] = [number for number, it in enumerate(outcomes) if it.error is None]
        for number, (instance, outcome) in enumerate(zip(rivals, outcomes, strict=True)):
            if number != winner:
                assert isinstance(outcome.error, WorkflowExistsError)
                assert outcome.error.workflow_id == instance.id
                assert (instance.name, instance.revision) == (names[number], None)
        stored = provider.get_workflow_instance(rivals[winner].id)
        assert state(stored) == state(rivals[winner])
    assert sql("SELECT count(*) FROM wfc.workflows") == [(ROUNDS,)]
    assert sql(FOREIGN_POINTERS) == []


def create_all(url: str, number: int, ids: list[str]) -> list[str]:
    """Try to create all workflows; return the ids of those that this process created."""
    mine = []
    with PostgresPersistenceProvider(url) as provider:
        for id in ids:
            try:
                mine.append(provider.create_new_workflow(rival(number, {"id": id})))
            except WorkflowExistsError:
                continue
    return mine


def test_concurrent_creation_by_processes_succeeds_once(
    provider: PostgresPersistenceProvider, database_url: str, in_processes: InProcesses
) -> None:
    ids = [f"workflow-{number}" for number in range(100)]
    arguments = [(database_url, number, ids) for number in range(4)]
    shares = in_processes(create_all, arguments, method="fork")
    assert sorted(id for mine in shares for id in mine) == sorted(ids)
    for number, mine in enumerate(shares):
        for stored in provider.get_workflow_instances(mine):
            assert stored == rival(number, {"id": stored.id, "name": stored.id})


def test_concurrent_creation_of_an_event_succeeds_once(provider: PostgresPersistenceProvider) -> None:
    rivals = [event(id="one", event_data=number) for number in range(16)]
    outcomes = race([partial(provider.create_event, it) for it in rivals])
    errors = [it.error for it in outcomes if it.error]
    assert len(errors) == 15
    assert all(isinstance(error, EventExistsError) for error in errors)
    assert provider.get_event("one") in rivals


def take_numbers(url: str, definitions: list[str], count: int) -> dict[str, list[int]]:
    """Take `count` numbers from the sequence of each definition."""
    taken: dict[str, list[int]] = {name: [] for name in definitions}
    with PostgresPersistenceProvider(url) as provider:
        for _ in range(count):
            for name in definitions:
                taken[name].append(provider.next_definition_sequence(name))
    return taken


def test_concurrent_definition_sequences_have_no_duplicates_and_no_gaps(
    provider: PostgresPersistenceProvider, database_url: str, in_processes: InProcesses
) -> None:
    """Numbers start at 1, are independent per definition, and increase for each caller."""
    names = ["order", "invoice"]
    shares = in_processes(take_numbers, [(database_url, names, 50)] * 8, method="fork")
    for name in names:
        assert sorted(number for share in shares for number in share[name]) == list(range(1, 401))
        assert all(share[name] == sorted(share[name]) for share in shares)
        assert provider.next_definition_sequence(name) == 401


def test_sequence_number_of_rolled_back_transaction_is_reused(provider: PostgresPersistenceProvider) -> None:
    """A waiting caller gets the number, so a rolled-back transaction leaves no gap."""
    with provider.engine.connect() as connection:
        assert provider.using(connection).next_definition_sequence("order") == 1

        def ask(number: int) -> Any:
            return provider.next_definition_sequence("order") if number else connection.rollback()

        assert Counter(run_in_threads(4, ask)) == {None: 1, 1: 1, 2: 1, 3: 1}
    assert results(race([partial(provider.next_definition_sequence, "order")])) == [4]
