"""One provider used by several threads and by forked child processes."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine
from sqlalchemy.pool import QueuePool

from tests.conftest import InProcesses, Sql
from tests.provider.databases import OURS
from wfe_postgres import PostgresPersistenceProvider, WorkflowExistsError, WorkflowStatus
from wfe_postgres.testing.conformance.support import at, pointer, race, results, workflow
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider


def test_concurrent_calls_of_sixteen_threads_get_their_own_answers(provider: Provider) -> None:
    """With ten pooled connections, every call returns the result for its own arguments."""

    def work(number: int) -> bool:
        own = []
        for turn in range(10):
            instance = workflow(pointer(f"{number}-{turn}"), data={"number": number, "turn": turn})
            provider.create_new_workflow(instance)
            loaded = provider.get_workflow_instance(instance.id)
            assert loaded == instance
            loaded.data["saved"] = True
            provider.persist_workflow(loaded)
            id = provider.create_event(published(event_key=str(number)))
            assert id in provider.get_events("paid", str(number), at(0))
            own.append(loaded)
        assert provider.get_workflow_instances([it.id for it in own]) == own
        return True

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))
    assert provider.get_statistics().workflows[WorkflowStatus.RUNNABLE] == 160
    assert isinstance(provider.engine.pool, QueuePool)
    assert provider.engine.pool.checkedin() <= 10


def test_concurrent_creates_with_one_name_store_one_workflow(provider: Provider) -> None:
    """One call succeeds, and the others raise WorkflowExistsError."""
    outcomes = race([lambda: provider.create_new_workflow(workflow(name="one")) for _ in range(16)])
    assert sum(isinstance(it.error, WorkflowExistsError) for it in outcomes) == 15
    assert len(results([it for it in outcomes if it.error is None])) == 1


def fill(provider: Provider, name: str) -> list[str]:
    """Store and read fifty events with this name."""
    for turn in range(50):
        id = provider.create_event(published(event_name=name, event_data=turn))
        assert provider.get_event(id).event_data == turn
    return provider.get_events(name, "order-1", at(0))


def test_provider_works_after_a_fork(database_url: str, in_processes: InProcesses, sql: Sql) -> None:
    """The provider works in the parent and the children, and a child does not close the connections of the parent."""
    with Provider(database_url) as provider:
        results(race([lambda: provider.get_runnable_events(at(0)) for _ in range(4)]))
        pooled = {pid for (pid,) in sql(OURS)}
        assert pooled
        with ThreadPoolExecutor(1) as parent:
            own = parent.submit(fill, provider, "parent")
            counts = in_processes(fill, [(provider, f"child {number}") for number in range(3)], method="fork")
        assert len(own.result()) == 50
        assert [len(ids) for ids in counts] == [50, 50, 50]
        assert pooled <= {pid for (pid,) in sql(OURS)}
        assert len(fill(provider, "after")) == 50


def test_provider_on_an_application_engine_works_after_a_fork(app_engine: Engine, in_processes: InProcesses) -> None:
    """The same for a provider created by `from_engine`."""
    provider = Provider.from_engine(app_engine)
    fill(provider, "before")
    assert [len(ids) for ids in in_processes(fill, [(provider, "child")], method="fork")] == [50]
    assert len(fill(provider, "parent")) == 50
