"""What the services share: an engine, a schema, a statement runner, and their tables."""

import math
from types import TracebackType
from typing import Any, NoReturn, Self

from sqlalchemy import URL, Engine

from wfe_postgres import schema as store
from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections import PooledRunner, pool_source
from wfe_postgres.connections.engines import make_engine
from wfe_postgres.orm import SCHEMA


class PostgresService:
    """The common part of the services. Thread-safe; one that was made before a fork works in the child process."""

    engine: Engine
    """The engine that the service works on, the application's or its own."""
    schema: str
    """The schema of the tables."""

    def __init__(
        self,
        url: str | URL,
        *,
        schema: str = SCHEMA,
        retry_budget: float = 30.0,
        call_timeout: float | None = 60.0,
        **engine_options: Any,
    ) -> None:
        engine = make_engine(url, call_timeout, engine_options)
        self._set_up(engine, schema, retry_budget, math.inf if call_timeout is None else call_timeout)
        self._owns_engine = True

    def _set_up(self, engine: Engine, schema: str, retry_budget: float, timeout: float = math.inf) -> None:
        self.engine = engine
        self.schema = schema_name(schema)
        self._runner = PooledRunner(pool_source(engine), self.schema, retry_budget=retry_budget, timeout=timeout)
        self._owns_engine = False

    def ensure_store_exists(self) -> None:
        """Create the store or upgrade it: see `PostgresPersistenceProvider`. The services' tables are part of it."""
        store.ensure(self.engine, self.schema, read_timeout=self._runner.timeout)

    def start(self) -> None:
        """Begin; any number of times."""

    def stop(self) -> None:
        """Release what `start` took; any number of times."""

    def close(self) -> None:
        """`stop`, and release the pool, if it is the service's own; any number of times. No call can follow."""
        self.stop()
        self._runner.close()
        if self._owns_engine:
            self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.engine.url!r}, schema={self.schema!r})"

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: pass the URL, and create another one")
