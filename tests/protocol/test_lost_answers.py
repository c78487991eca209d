"""The connection is closed before or after the server executes a call: the call takes effect exactly once."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.protocol.calls import ONE_ROUND_TRIP, Prepare
from tests.protocol.proxy import Loss, Proxy
from wfe_postgres import OutcomeUnknownError, PersistenceError, PostgresPersistenceProvider
from wfe_postgres.orm import Base
from wfe_postgres.testing.conformance.support import event

COUNTS = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in Base.metadata.sorted_tables)

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def direct_connection(proxy: Proxy) -> Iterator[psycopg.Connection[Any]]:
    """A separate connection."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        yield connection


def counts(direct_connection: psycopg.Connection[Any]) -> dict[str, int]:
    """The number of rows in each table."""
    return dict(direct_connection.execute(COUNTS.encode()).fetchall())


@pytest.mark.parametrize("prepare", ONE_ROUND_TRIP.values(), ids=ONE_ROUND_TRIP)
@pytest.mark.parametrize("loss", Loss)
def test_call_with_lost_request_or_answer_takes_effect_once(
    proxied: Provider, proxy: Proxy, direct_connection: psycopg.Connection[Any], prepare: Prepare, loss: Loss
) -> None:
    """The row counts change as they do without the loss."""
    changes = []
    for dropped in (None, None, loss):  # the first call may insert a row that later calls update
        call = prepare(proxied)
        before = counts(direct_connection)
        proxy.loss = dropped
        call()
        assert proxy.loss is None, "nothing was dropped"
        changes.append({table: count - before[table] for table, count in counts(direct_connection).items()})
    assert changes[1] == changes[2]


def lose_the_commit(provider: Provider, proxy: Proxy, loss: Loss) -> None:
    """Run a transaction block whose COMMIT, or the answer to it, is lost."""
    with provider.transaction() as tx:
        tx.create_event(event(id=f"committed {loss}"))
        tx.next_definition_sequence(f"committed {loss}")
        proxy.loss = loss


@pytest.mark.parametrize("loss", Loss)
def test_transaction_block_with_lost_commit_raises_outcome_unknown(
    proxied: Provider, proxy: Proxy, direct_connection: psycopg.Connection[Any], loss: Loss
) -> None:
    """The block is not retried: it raises `OutcomeUnknownError`, and is either committed or rolled back."""
    before = counts(direct_connection)
    with pytest.raises(OutcomeUnknownError) as caught:
        lose_the_commit(proxied, proxy, loss)
    assert caught.value.__context__ is None
    expected = 1 if loss is Loss.ANSWER else 0
    for table in ("wfc.events", "wfc.definition_sequences"):
        assert counts(direct_connection)[table] - before[table] == expected


@pytest.mark.parametrize("loss", Loss)
def test_lost_write_without_retries_raises_outcome_unknown(
    proxy: Proxy, direct_connection: psycopg.Connection[Any], loss: Loss
) -> None:
    """A write that may have been committed raises `OutcomeUnknownError` with its id; a read is a transient error."""
    with Provider(proxy.url, retry_budget=0) as provider:
        provider.get_statistics()
        before = counts(direct_connection)
        proxy.loss = loss
        with pytest.raises(OutcomeUnknownError) as unknown:
            provider.create_event(event(id=f"lost {loss}"))
        assert unknown.value.ids == (f"lost {loss}",)
        assert counts(direct_connection)["wfc.events"] - before["wfc.events"] == (1 if loss is Loss.ANSWER else 0)
        provider.get_statistics()
        proxy.loss = loss
        with pytest.raises(PersistenceError, match="lost") as caught:
            provider.get_statistics()
        assert caught.value.retryable


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("autocommit", [True, False])
def test_lost_write_on_callers_connection_is_in_doubt_in_autocommit_only(
    proxied: Provider, proxy: Proxy, direct_connection: psycopg.Connection[Any], loss: Loss, autocommit: bool
) -> None:
    """In a transaction of the caller's it is rolled back for certain; outside of one it may be committed."""
    before = counts(direct_connection)["wfc.events"]
    with psycopg.connect(proxy.url, autocommit=autocommit) as connection:
        tx = proxied.using(connection)
        tx.get_runnable_events(event().event_time)
        proxy.loss = loss
        with pytest.raises(PersistenceError) as caught:
            tx.create_event(event(id=f"lost {loss} {autocommit}"))
    assert isinstance(caught.value, OutcomeUnknownError) == autocommit
    stored = autocommit and loss is Loss.ANSWER
    assert counts(direct_connection)["wfc.events"] - before == (1 if stored else 0)


def test_lost_read_on_autocommit_connection_is_retryable(proxied: Provider, proxy: Proxy) -> None:
    """It had no effect."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        tx = proxied.using(connection)
        proxy.loss = Loss.ANSWER
        with pytest.raises(PersistenceError) as caught:
            tx.get_runnable_events(event().event_time)
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert caught.value.retryable
