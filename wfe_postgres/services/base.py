"""What the services share: an engine, a schema, a statement runner, and their tables."""

from typing import Any, NoReturn

from sqlalchemy import URL

from wfe_postgres.connections.engines import make_engine
from wfe_postgres.orm import SCHEMA
from wfe_postgres.schema.on_engine import OnEngine


class PostgresService(OnEngine):
    """The common part of the services. Thread-safe; one that was made before a fork works in the child process."""

    def __init__(
        self,
        url: str | URL,
        *,
        schema: str = SCHEMA,
        retry_budget: float = 30.0,
        call_timeout: float | None = 60.0,
        **engine_options: Any,
    ) -> None:
        self._open(make_engine(url, call_timeout, engine_options), schema, retry_budget, call_timeout)
        self._owns_engine = True

    def start(self) -> None:
        """Begin; any number of times."""

    def stop(self) -> None:
        """Release what `start` took; any number of times."""

    def close(self) -> None:
        """`stop`, and release the pool, if it is the service's own; any number of times.

        A later call is a `PersistenceError`, except `stop` and `close`.
        """
        self.stop()
        super().close()

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: pass the URL, and create another one")
