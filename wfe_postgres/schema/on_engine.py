"""The life of what works on an engine and the store in one of its schemas: the provider, and the services."""

import math
from typing import Self

from sqlalchemy import Engine

from wfe_postgres.codec.validation import schema_name
from wfe_postgres.connections import PooledRunner, PoolSource
from wfe_postgres.schema.store import ensure


def ensure_store(runner: PooledRunner, engine: Engine) -> None:
    """See `OnEngine.ensure_store_exists`."""
    runner.require_open()
    ensure(engine, runner.schema, read_timeout=runner.timeout)


class OnEngine:
    """The common part of the provider and of the services."""

    engine: Engine
    """The engine that it works on, the application's or its own: the place for event listeners."""
    schema: str
    """The schema of the tables."""
    _owns_engine = False

    def _open(self, engine: Engine, schema: str, retry_budget: float, call_timeout: float | None = None) -> None:
        self.engine = engine
        self.schema = schema_name(schema)
        timeout = math.inf if call_timeout is None else call_timeout
        self._pooled = PooledRunner(PoolSource(engine), self.schema, retry_budget=retry_budget, timeout=timeout)

    def ensure_store_exists(self) -> None:
        """Create the store or upgrade it; any number of times, from any number of processes at once.

        Works on connections of its own, also inside a caller's transaction. A store that is up to date is only read,
        for which USAGE and SELECT are enough. The tables of the services are part of it.

        Raises `StoreNotReadyError` when the store is newer than this library, incomplete, not what a WFE host made, or
        when this role may not change it.
        """
        ensure_store(self._pooled, self.engine)

    def close(self) -> None:
        """Release the pool, if it is its own. Any number of times; a later call is a `PersistenceError`."""
        self._pooled.close()
        if self._owns_engine:
            self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.engine.url!r}, schema={self.schema!r})"
