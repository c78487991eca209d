"""On engines, connections and sessions that stream their results, for which PostgreSQL declares a cursor.

It does that for a query, and neither for a write nor for SAVEPOINT, RELEASE and ROLLBACK TO.
"""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tests.provider.test_session_or_connection import use_everything
from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories, WorkflowExistsError
from wfe_postgres.testing.conformance.support import created, workflow

Provider = PostgresPersistenceProvider

pytestmark = pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 1}], ids=str)


def use_savepoints(provider: PostgresRepositories) -> None:
    """What was written in nested transactions is there, if its block did not raise."""
    with provider.transaction() as tx:
        outer = created(tx, workflow())
        lost = workflow()
        with pytest.raises(WorkflowExistsError), tx.transaction() as nested:
            created(nested, created(nested, lost))
        with tx.transaction() as nested, nested.transaction() as innermost:
            inner = created(innermost, workflow())
    assert provider.get_workflow_instances([outer.id, lost.id, inner.id]) == [outer, inner]


def test_calls_work_on_an_engine_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    provider = Provider.from_engine(app_engine.execution_options(**options))
    use_everything(provider)
    use_savepoints(provider)


def test_calls_work_on_a_connection_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    with app_engine.connect() as connection:
        connection.execution_options(**options)
        joined = Provider.from_engine(app_engine).using(connection)
        use_everything(joined)
        use_savepoints(joined)
        assert connection.get_execution_options().items() >= options.items()


def test_calls_work_in_a_session_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    with Session(app_engine) as session:
        session.connection(execution_options=options)
        joined = Provider.from_engine(app_engine).using(session)
        use_everything(joined)
        use_savepoints(joined)
        assert session.connection().get_execution_options().items() >= options.items()
