"""One process with many schemas: a statement is compiled once, whatever their number."""

from typing import Any

import pytest

from wfe_postgres import PostgresPersistenceProvider, StoreNotReadyError
from wfe_postgres.connections.execution import compiled


@pytest.mark.parametrize("joined", [False, True])
def test_schema_costs_no_compilation(provider: PostgresPersistenceProvider, joined: bool) -> None:
    """Each statement of a call is compiled for the first schema, and for no other."""
    compiled.cache_clear()
    for tenant in range(30):
        of_tenant = PostgresPersistenceProvider.from_engine(provider.engine, schema=f"tenant_{tenant}")
        with of_tenant.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            repositories = of_tenant.using(driver) if joined else of_tenant
            with pytest.raises(StoreNotReadyError, match=f"tenant_{tenant} "):
                repositories.get_event("id")
        assert compiled.cache_info().misses == 1
