"""A TLS handshake with a real server that is broken off at each of its steps: the call tries again."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL, make_url

from tests.faults.kit.form import runs
from tests.faults.kit.proxy import PASS, CutAfter, EndAfter, TcpProxy
from tests.faults.kit.tls import TlsServer, tls_server
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

END = 3500  # bytes; a little less than a handshake with authentication takes
STEPS = runs(
    # Before the server agrees to TLS, just after that, in its certificate, and at the end of the handshake.
    [4, 9, 1000, 2840],
    [*range(12), *range(12, END, 17)],
)


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsServer]:
    """A server with TLS and a store."""
    with tls_server() as server:
        with Provider(server.url(sslmode="require")) as provider:
            provider.ensure_store_exists()
        yield server


def url_of(proxy: TcpProxy, tls: TlsServer) -> URL:
    """The URL of the proxy, with TLS."""
    options = {"sslmode": "verify-full", "sslrootcert": str(tls.authority.root), "gssencmode": "disable"}
    return make_url(proxy.url).update_query_dict(options)


@pytest.mark.parametrize("end", [CutAfter, EndAfter])
@pytest.mark.parametrize("step", STEPS)
def test_call_succeeds_after_a_handshake_that_was_broken_off(tls: TlsServer, step: int, end: type[CutAfter]) -> None:
    def heal() -> None:
        proxy.fault = PASS

    with TcpProxy(tls.postgres.url) as proxy, Provider(url_of(proxy, tls), retry_budget=10) as provider:
        proxy.fault = end(step, heal)
        id = provider.create_event(published(event_key=f"{end.__name__} {step}"))
        assert proxy.connections == 2
        assert provider.get_events("paid", f"{end.__name__} {step}", at(0)) == [id]


@pytest.mark.parametrize("end", [CutAfter, EndAfter])
@pytest.mark.parametrize("step", STEPS)
def test_handshake_that_is_always_broken_off_is_no_refusal_of_tls(
    tls: TlsServer, step: int, end: type[CutAfter]
) -> None:
    def again() -> None:
        proxy.fault = end(step, again)

    with TcpProxy(tls.postgres.url) as proxy, Provider(url_of(proxy, tls), retry_budget=0.05) as provider:
        again()
        with pytest.raises(PersistenceError, match="the server closed the connection") as caught:
            provider.get_runnable_events(at(0))
        assert caught.value.retryable
