"""`synchronous_commit = off` somewhere: what the provider reports as written is on disk all the same."""

import pytest
from sqlalchemy import text

from tests.protocol.calls import ALL, Counted
from wfe_postgres import PostgresPersistenceProvider

CHANGES_NOTHING = ("get_", "find_", "ensure_", "truncate_")
WITHOUT_EFFECT = {
    "set_subscription_token, held",
    "process_commands, none due",
    "persist_errors of none",
}
WRITES = {name for name in ALL if not name.startswith(CHANGES_NOTHING)} - WITHOUT_EFFECT


@pytest.mark.parametrize("counted", [ALL[name] for name in sorted(WRITES)], ids=sorted(WRITES))
def test_a_write_waits_for_the_disk(shared: PostgresPersistenceProvider, counted: Counted) -> None:
    """It switches the setting on for its transaction, so the commit waits; the session's own stays as it was."""
    with shared.engine.connect() as connection:
        connection.execute(text("SET synchronous_commit = off"))
        connection.commit()
        call = counted.prepare(shared.using(connection))
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        call()
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
        connection.rollback()
        assert connection.scalar(text("SHOW synchronous_commit")) == "off"
        connection.rollback()
        connection.invalidate()


def test_a_role_that_does_not_wait_at_all(shared: PostgresPersistenceProvider) -> None:
    """Only `off` is changed: who chose to wait for the local disk alone, or for the standbys, goes on so."""
    with shared.engine.connect() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = local"))
        shared.using(connection).next_definition_sequence("order")
        assert connection.scalar(text("SHOW synchronous_commit")) == "local"
        connection.rollback()
