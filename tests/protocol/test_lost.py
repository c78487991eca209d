"""A connection that is cut off in a call, before or after the server got it: the call is made once all the same."""

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
def beside(proxy: Proxy) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test's own."""
    with psycopg.connect(proxy.url, autocommit=True) as connection:
        yield connection


def counts(beside: psycopg.Connection[Any]) -> dict[str, int]:
    """How many rows each table has."""
    return dict(beside.execute(COUNTS.encode()).fetchall())


@pytest.mark.parametrize("prepare", ONE_ROUND_TRIP.values(), ids=ONE_ROUND_TRIP)
@pytest.mark.parametrize("loss", Loss)
def test_no_call_fails_or_happens_twice(
    proxied: Provider, proxy: Proxy, beside: psycopg.Connection[Any], prepare: Prepare, loss: Loss
) -> None:
    """It changes the tables as it does undisturbed."""
    changes = []
    for disturbance in (None, None, loss):  # the first time some make a row that they change afterwards
        call = prepare(proxied)
        before = counts(beside)
        proxy.loss = disturbance
        call()
        assert proxy.loss is None, "nothing was lost"
        changes.append({table: count - before[table] for table, count in counts(beside).items()})
    assert changes[1] == changes[2]


def lose_the_commit(provider: Provider, proxy: Proxy, loss: Loss) -> None:
    """A block whose COMMIT, or the answer to it, is lost."""
    with provider.transaction() as tx:
        tx.create_event(event(id=f"committed {loss}"))
        tx.next_definition_sequence(f"committed {loss}")
        proxy.loss = loss


@pytest.mark.parametrize("loss", Loss)
def test_a_lost_commit_of_a_block(proxied: Provider, proxy: Proxy, beside: psycopg.Connection[Any], loss: Loss) -> None:
    """Only the application knows what was in it: an `OutcomeUnknownError`; it is there whole or not at all."""
    before = counts(beside)
    with pytest.raises(OutcomeUnknownError) as caught:
        lose_the_commit(proxied, proxy, loss)
    assert caught.value.__context__ is None
    expected = 1 if loss is Loss.ANSWER else 0
    for table in ("wfc.events", "wfc.definition_sequences"):
        assert counts(beside)[table] - before[table] == expected


@pytest.mark.parametrize("loss", Loss)
def test_without_retries_it_is_said(proxy: Proxy, beside: psycopg.Connection[Any], loss: Loss) -> None:
    """A write that may have taken place is an `OutcomeUnknownError` with its id; nothing is tried again."""
    with Provider(proxy.url, retry_budget=0) as provider:
        provider.get_statistics()
        before = counts(beside)
        proxy.loss = loss
        with pytest.raises(OutcomeUnknownError) as unknown:
            provider.create_event(event(id=f"lost {loss}"))
        assert unknown.value.ids == (f"lost {loss}",)
        assert counts(beside)["wfc.events"] - before["wfc.events"] == (1 if loss is Loss.ANSWER else 0)
        provider.get_statistics()
        proxy.loss = loss
        with pytest.raises(PersistenceError, match="lost") as caught:
            provider.get_statistics()
        assert caught.value.retryable
