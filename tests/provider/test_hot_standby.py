"""Reads on a hot standby, and the refusal of writes there."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.cli import app
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, find_binaries
from wfe_postgres.testing.conformance.support import at, created, event, full_workflow, state, workflow

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def standby() -> Iterator[str]:
    """The URL of a server in recovery, which accepts reads. It has a store with two workflows and an event."""
    try:
        find_binaries()
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    with EmbeddedPostgres() as server:
        with Provider(server.url) as provider:
            provider.ensure_store_exists()
            created(provider, full_workflow(id="full", name="full"))
            created(provider, workflow(id="due"))
            provider.create_event(event(id="event-1"))
        server.stop()
        (server.directory / "data" / "standby.signal").touch()
        server.start()
        with server.connect() as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        yield server.url


@pytest.fixture
def reader(standby: str) -> Iterator[Provider]:
    """A provider on the standby."""
    with Provider(standby, retry_budget=0.2) as provider:
        yield provider


def test_reads_on_a_hot_standby_return_what_is_stored(reader: Provider) -> None:
    assert state(reader.get_workflow_instance("full").execution_pointers[0]) == state(
        full_workflow(id="full").execution_pointers[0]
    )
    assert {item.id for item in reader.find_workflows().items} == {"full", "due"}
    assert "due" in reader.get_runnable_instances(at(1))
    assert reader.get_runnable_events(at(1)) == ["event-1"]
    assert reader.get_statistics().unprocessed_events == 1
    with Session(reader.engine) as session:
        assert reader.using(session).get_workflow_instance("due").id == "due"


def test_ensure_store_exists_on_a_hot_standby_accepts_a_store_at_head(reader: Provider) -> None:
    reader.ensure_store_exists()


def test_write_on_a_hot_standby_is_refused(reader: Provider) -> None:
    instance = reader.get_workflow_instance("due")
    instance.data = {"changed": True}
    for write in (lambda: reader.create_event(event()), lambda: reader.persist_workflow(instance)):
        with pytest.raises(PersistenceError) as caught:
            write()
        assert caught.value.sqlstate == "25006"
    assert reader.get_workflow_instance("due").data != {"changed": True}


@pytest.mark.parametrize("command", ["status", "check", "list", "show due", "events"])
def test_command_that_reads_works_on_a_hot_standby(standby: str, command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--url", standby])
    assert result.exit_code == 0, result.output
