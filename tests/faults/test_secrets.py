"""Errors, logs and tracebacks of calls that fail by a network fault contain no value and no password.

`tests/provider/test_canaries.py` has the same checks for rejected statements; this module covers network faults and
the log of the server.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import psycopg
import pytest
from sqlalchemy import make_url

from tests.faults.kit.cluster import Cluster
from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, CutAfter, Fault, Refuse, Silence, TcpProxy
from tests.provider.canaries import CANARY, PASSWORD, shown
from tests.provider.test_canaries import OUR_OWN, full_event, full_of_canaries, full_subscription
from wfe_postgres import ExecutionError, PersistenceError, PostgresPersistenceProvider, WfeError
from wfe_postgres.contract.models import new_id
from wfe_postgres.testing.conformance.support import at, created, workflow

Provider = PostgresPersistenceProvider
Call = Callable[[], object]

TIMEOUT = 1.0


def prepare_save(provider: Provider) -> Call:
    """Return a save of a stored workflow."""
    instance = created(provider, full_of_canaries(name=new_id()))
    instance.data = [CANARY]
    return partial(provider.persist_workflow_with_subscriptions, instance, [full_subscription(workflow_id=instance.id)])


def prepare_load(provider: Provider) -> Call:
    """Return a load of a stored workflow."""
    return partial(provider.get_workflow_instance, created(provider, full_of_canaries(name=new_id())).id)


def prepare_token(provider: Provider) -> Call:
    """Return a call that sets a secret token."""
    id = provider.create_event_subscription(full_subscription(external_token=None))
    return partial(provider.set_subscription_token, id, CANARY, CANARY, at(9))


def prepare_transaction(provider: Provider) -> Call:
    """Return two writes in one transaction."""

    def block() -> None:
        with provider.transaction() as tx:
            tx.create_event(full_event())
            tx.persist_errors([ExecutionError("w", "p", CANARY)])

    return block


CALLS: dict[str, Callable[[Provider], Call]] = {
    "create_new_workflow": lambda it: partial(it.create_new_workflow, full_of_canaries(name=new_id())),
    "persist_workflow_with_subscriptions": prepare_save,
    "get_workflow_instance": prepare_load,
    "create_event": lambda it: partial(it.create_event, full_event()),
    "get_events": lambda it: partial(it.get_events, CANARY, CANARY, at(0)),
    "set_subscription_token": prepare_token,
    "persist_errors": lambda it: partial(it.persist_errors, [ExecutionError("w", "p", CANARY)]),
    "a transaction": prepare_transaction,
}

SOME = ["persist_workflow_with_subscriptions", "a transaction"]

FAULTS: dict[str, Callable[[TcpProxy], Fault]] = {
    "cut in the request": lambda it: CutAfter(200, partial(setattr, it, "fault", Refuse())),
    "cut after the first byte": lambda it: CutAfter(1, partial(setattr, it, "fault", Refuse())),
    "cut once": lambda it: CutAfter(200, partial(setattr, it, "fault", PASS)),
    "no answer": lambda _: Silence(),
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return all log messages at all levels; the loggers of SQLAlchemy keep their default level."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_errors_and_logs_contain_no_value_when_the_connection_is_lost(
    cluster: Cluster, database: str, logged: Callable[[], str], fault: Callable[[TcpProxy], Fault]
) -> None:
    """They contain neither parameters nor the password of the URL."""
    mark = cluster.log_mark()
    with TcpProxy(database) as proxy:
        url = make_url(proxy.url).set(password=PASSWORD)
        with Provider(url, call_timeout=TIMEOUT, retry_budget=0.1, pool_size=len(CALLS)) as provider:
            for name in runs(SOME, list(CALLS)) if fault is FAULTS["no answer"] else CALLS:
                call = CALLS[name](provider)
                proxy.fault = fault(proxy)
                error = None
                try:
                    call()
                except PersistenceError as caught:
                    error = caught
                proxy.fault = PASS
                if error is not None:
                    assert CANARY not in shown(error), name
                    assert PASSWORD not in shown(error), name
            assert PASSWORD not in repr(provider)
    assert PASSWORD not in logged()
    assert CANARY not in logged()
    assert CANARY not in cluster.log_since(mark)


def test_errors_and_logs_contain_no_value_when_a_call_times_out(
    cluster: Cluster, database: str, logged: Callable[[], str]
) -> None:
    """A statement that waits for a lock is cancelled; the server logs the statement without parameters."""
    mark = cluster.log_mark()
    with Provider(database, call_timeout=0.3) as provider, psycopg.connect(database) as other:
        call = prepare_save(provider)
        other.execute("LOCK TABLE wfc.workflows")
        with pytest.raises(PersistenceError) as caught:
            call()
    assert caught.value.sqlstate == "57014"
    assert CANARY not in shown(caught.value)
    assert CANARY not in logged()
    assert "canceling statement" in cluster.log_since(mark)
    assert CANARY not in cluster.log_since(mark)


def test_server_log_contains_no_value_when_the_provider_rejects_it(cluster: Cluster, database: str) -> None:
    """The provider rejects invalid values itself, so that they are not sent."""
    mark = cluster.log_mark()
    with Provider(database) as provider:
        for call in OUR_OWN.values():
            with suppress(WfeError, ValueError):
                call(provider)
            provider.truncate_all()
    assert CANARY not in cluster.log_since(mark)


def test_server_log_contains_the_value_when_the_server_rejects_it(cluster: Cluster, database: str) -> None:
    """Checks that the other tests read the right log."""
    mark = cluster.log_mark()
    with Provider(database) as provider:
        provider.create_new_workflow(workflow(name=CANARY))
        other = created(provider, workflow())
        other.name = CANARY
        with pytest.raises(PersistenceError):
            provider.persist_workflow(other)
    assert CANARY in cluster.log_since(mark)
