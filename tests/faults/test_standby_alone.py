"""Only a standby of the hosts in the URL is reachable: the error says so, and calls go on once it is promoted."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from tests.faults.kit.proxy import TcpProxy
from tests.provider.databases import wait_until
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider


@pytest.fixture(scope="module")
def standby() -> Iterator[EmbeddedPostgres]:
    """A server in recovery, with a store."""
    with EmbeddedPostgres(tcp=True) as server:
        with Provider(server.url) as provider:
            provider.ensure_store_exists()
        server.stop()
        (server.directory / "data" / "standby.signal").touch()
        server.start()
        yield server


def url_of(standby: EmbeddedPostgres, hosts: str, attributes: str) -> str:
    """Its URL with these hosts, of which STANDBY stands for itself."""
    url = make_url(standby.url)
    options = {"target_session_attrs": attributes, "sslmode": "disable"}
    text = url.set(host="HOSTS", port=-1).update_query_dict(options).render_as_string(hide_password=False)
    return text.replace("HOSTS:-1", hosts.replace("STANDBY", f"127.0.0.1:{url.port}"))


@pytest.mark.parametrize("attributes", ["read-write", "primary"])
@pytest.mark.parametrize("hosts", ["STANDBY", "STANDBY,127.0.0.1:1", "127.0.0.1:1,STANDBY"])
def test_standby_alone_is_said_to_accept_no_writes(standby: EmbeddedPostgres, hosts: str, attributes: str) -> None:
    url = url_of(standby, hosts, attributes)
    with Provider(url, retry_budget=0.3) as provider:
        for call in (lambda: provider.create_event(published()), lambda: provider.transaction().__enter__()):
            with pytest.raises(PersistenceError, match="cannot connect: none of the hosts accepts writes") as caught:
                call()
            assert caught.value.retryable
        with pytest.raises(PersistenceError, match="none of the hosts accepts writes"):
            provider.ensure_store_exists()


def test_standby_is_read_where_the_url_allows_it(standby: EmbeddedPostgres) -> None:
    with Provider(url_of(standby, "127.0.0.1:1,STANDBY", "prefer-standby")) as provider:
        assert provider.get_runnable_events(at(0)) == []


def test_call_goes_on_when_the_standby_is_promoted(standby: EmbeddedPostgres) -> None:
    with TcpProxy(standby.url) as proxy:
        parts = make_url(proxy.url)
        ids: list[str] = []
        with Provider(url_of(standby, f"127.0.0.1:{parts.port}", "read-write")) as provider:
            call = threading.Thread(target=lambda: ids.append(provider.create_event(published())))
            call.start()
            wait_until(lambda: proxy.connections > 1)
            with standby.connect() as connection:
                connection.execute("SELECT pg_promote()")
            call.join(30)
            assert provider.get_runnable_events(at(0)) == ids != []
