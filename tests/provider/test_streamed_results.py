"""On engines, connections and sessions that stream their results, which PostgreSQL does not do for a write."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tests.provider.test_session_or_connection import use_everything
from wfe_postgres import PostgresPersistenceProvider

Provider = PostgresPersistenceProvider

pytestmark = pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 1}], ids=str)


def test_calls_work_on_an_engine_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    use_everything(Provider.from_engine(app_engine.execution_options(**options)))


def test_calls_work_on_a_connection_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    with app_engine.connect() as connection:
        connection.execution_options(**options)
        use_everything(Provider.from_engine(app_engine).using(connection))
        assert connection.get_execution_options().items() >= options.items()


def test_calls_work_in_a_session_that_streams(app_engine: Engine, options: dict[str, Any]) -> None:
    with Session(app_engine) as session:
        session.connection(execution_options=options)
        use_everything(Provider.from_engine(app_engine).using(session))
