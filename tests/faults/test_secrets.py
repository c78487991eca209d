"""What faults bring to light: no error, log or traceback of a disturbed call repeats a value or a password.

What the database refuses is looked at in `tests/provider/test_canaries.py`; here are the faults of the way to it, and
the server's own log.
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
from wfe_postgres.testing.conformance.support import at, created

Provider = PostgresPersistenceProvider
Call = Callable[[], object]

TIMEOUT = 1.0


def saving(provider: Provider) -> Call:
    """A workflow that is there."""
    instance = created(provider, full_of_canaries(name=new_id()))
    instance.data = [CANARY]
    return partial(provider.persist_workflow_with_subscriptions, instance, [full_subscription(workflow_id=instance.id)])


def loading(provider: Provider) -> Call:
    """A workflow that is there."""
    return partial(provider.get_workflow_instance, created(provider, full_of_canaries(name=new_id())).id)


def taking(provider: Provider) -> Call:
    """With a token that is a secret."""
    id = provider.create_event_subscription(full_subscription(external_token=None))
    return partial(provider.set_subscription_token, id, CANARY, CANARY, at(9))


def in_a_block(provider: Provider) -> Call:
    """Two writes in one transaction."""

    def block() -> None:
        with provider.transaction() as tx:
            tx.create_event(full_event())
            tx.persist_errors([ExecutionError("w", "p", CANARY)])

    return block


CALLS: dict[str, Callable[[Provider], Call]] = {
    "create_new_workflow": lambda it: partial(it.create_new_workflow, full_of_canaries(name=new_id())),
    "persist_workflow_with_subscriptions": saving,
    "get_workflow_instance": loading,
    "create_event": lambda it: partial(it.create_event, full_event()),
    "get_events": lambda it: partial(it.get_events, CANARY, CANARY, at(0)),
    "set_subscription_token": taking,
    "persist_errors": lambda it: partial(it.persist_errors, [ExecutionError("w", "p", CANARY)]),
    "a transaction": in_a_block,
}

SOME = ["persist_workflow_with_subscriptions", "a transaction"]

FAULTS: dict[str, Callable[[TcpProxy], Fault]] = {
    "cut in the request": lambda it: CutAfter(200, partial(setattr, it, "fault", Refuse())),
    "cut at once": lambda it: CutAfter(1, partial(setattr, it, "fault", Refuse())),
    "cut, and found out": lambda it: CutAfter(200, partial(setattr, it, "fault", PASS)),
    "silence": lambda _: Silence(),
}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """All that is logged by anybody at any level; SQLAlchemy's own, which are off by default, as they are."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_lost_connection_tells_nothing(
    cluster: Cluster, database: str, logged: Callable[[], str], fault: Callable[[TcpProxy], Fault]
) -> None:
    """Neither what was on the way, nor the password of the URL."""
    mark = cluster.log_mark()
    with TcpProxy(database) as proxy:
        url = make_url(proxy.url).set(password=PASSWORD)
        with Provider(url, call_timeout=TIMEOUT, retry_budget=0.1, pool_size=len(CALLS)) as provider:
            for name in runs(SOME, list(CALLS)) if fault is FAULTS["silence"] else CALLS:
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


def test_a_deadline_tells_nothing(cluster: Cluster, database: str, logged: Callable[[], str]) -> None:
    """The server is asked to cancel what waits for a lock: it logs the statement, and no parameter."""
    mark = cluster.log_mark()
    with Provider(database, call_timeout=0.3) as provider, psycopg.connect(database) as other:
        call = saving(provider)
        other.execute("LOCK TABLE wfc.workflows")
        with pytest.raises(PersistenceError) as caught:
            call()
    assert caught.value.sqlstate == "57014"
    assert CANARY not in shown(caught.value)
    assert CANARY not in logged()
    assert "canceling statement" in cluster.log_since(mark)
    assert CANARY not in cluster.log_since(mark)


def test_what_is_refused_here_is_not_in_the_servers_log(cluster: Cluster, database: str) -> None:
    """Whatever can be known to be bad is not sent, so that the server has nothing to quote."""
    mark = cluster.log_mark()
    with Provider(database) as provider:
        for call in OUR_OWN.values():
            with suppress(WfeError, ValueError):
                call(provider)
            provider.truncate_all()
    assert CANARY not in cluster.log_since(mark)


def test_the_log_is_looked_at(cluster: Cluster, database: str) -> None:
    """The measure itself: a value that the server refuses does stand in its log."""
    mark = cluster.log_mark()
    with Provider(database) as provider:
        provider.create_event_subscription(full_subscription(id=CANARY))
        with pytest.raises(PersistenceError):
            provider.create_event_subscription(full_subscription(id=CANARY))
    assert CANARY in cluster.log_since(mark)
