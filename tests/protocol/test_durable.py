"""Acknowledged writes are durable even where `synchronous_commit` is off."""

import pytest
from sqlalchemy import text

from tests.protocol.calls import ALL, Counted
from wfe_postgres import PostgresPersistenceProvider

READ_ONLY = ("get_", "find_", "ensure_", "truncate_")
WITHOUT_EFFECT = {
    "set_subscription_token, held",
    "process_commands, none due",
    "persist_errors of none",
}
WRITES = {name for name in ALL if not name.startswith(READ_ONLY)} - WITHOUT_EFFECT


@pytest.mark.parametrize("counted", [ALL[name] for name in sorted(WRITES)], ids=sorted(WRITES))
def test_write_with_synchronous_commit_off_commits_synchronously(
    shared: PostgresPersistenceProvider, counted: Counted
) -> None:
    """The write sets `synchronous_commit` to on for its transaction; the setting of the session is not changed."""
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


def test_write_with_synchronous_commit_local_keeps_the_setting(shared: PostgresPersistenceProvider) -> None:
    """Only `off` is overridden; settings such as `local` or `remote_apply` are kept."""
    with shared.engine.connect() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = local"))
        shared.using(connection).next_definition_sequence("order")
        assert connection.scalar(text("SHOW synchronous_commit")) == "local"
        connection.rollback()
