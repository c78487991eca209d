"""Several hosts in the URL, of which some do not answer: the time of a call is divided by them."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.faults.kit.proxy import Silence, TcpProxy
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

TIMEOUT = 6.0
GRACE = 1.0  # a cancellation, and a busy machine
CONNECTIONS = 4


@contextmanager
def silent_hosts(count: int) -> Iterator[list[int]]:
    """The ports of hosts that accept connections and never answer."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=50)) for _ in range(count)]
        yield [listener.getsockname()[1] for listener in listeners]


def url_of(url: str, ports: list[int], **options: str) -> str:
    """The URL with these ports of this machine as its hosts."""
    hosts = {"host": ",".join("127.0.0.1" for _ in ports), "port": ",".join(map(str, ports)), "sslmode": "disable"}
    several = make_url(url).set(host=None, port=None, query={}).update_query_dict(hosts | options)
    return several.render_as_string(hide_password=False)


def port_of(proxy: TcpProxy) -> int:
    """The port of a proxy."""
    port = make_url(proxy.url).port
    assert port is not None
    return port


@pytest.mark.parametrize("options", [{}, {"connect_timeout": "2"}, {"connect_timeout": "30"}])
def test_call_ends_within_its_timeout_when_no_host_of_five_answers(database_url: str, options: dict[str, str]) -> None:
    """libpq counts `connect_timeout` for each host, and in whole seconds, at least two."""
    with silent_hosts(5) as ports, Provider(url_of(database_url, ports, **options), call_timeout=3) as provider:
        for call in (lambda: provider.get_runnable_events(at(0)), lambda: provider.transaction().__enter__()):
            began = time.monotonic()
            with pytest.raises(PersistenceError, match="cannot connect") as caught:
                call()
            assert time.monotonic() - began < 3 + GRACE
            assert caught.value.retryable


@pytest.mark.parametrize("options", [{}, {"connect_timeout": "30"}])
def test_last_host_is_reached_when_the_others_are_silent(database_url: str, options: dict[str, str]) -> None:
    with silent_hosts(4) as ports, TcpProxy(database_url) as proxy:
        url = url_of(database_url, [*ports, port_of(proxy)], **options)
        with Provider(url, call_timeout=TIMEOUT) as provider:
            id = provider.create_event(published())
            assert provider.get_event(id).id == id


def test_calls_go_to_the_other_host_when_the_first_one_hangs(database_url: str) -> None:
    """Its connections in the pool stay open and are silent. Each call still finds time for a second try."""
    with TcpProxy(database_url) as first, TcpProxy(database_url) as second:
        url = url_of(database_url, [port_of(first), port_of(second)])
        with Provider(url, call_timeout=TIMEOUT, pool_size=CONNECTIONS) as provider:
            with ThreadPoolExecutor(CONNECTIONS) as threads:
                list(threads.map(lambda _: provider.get_runnable_events(at(0)), range(4 * CONNECTIONS)))
            assert first.connections
            assert not second.connections
            first.fault = Silence(requests=False)
            began = time.monotonic()
            ids = [provider.create_event(published()) for _ in range(CONNECTIONS)]
            assert time.monotonic() - began < 2 * TIMEOUT
            assert second.connections
            assert sorted(provider.get_runnable_events(at(0))) == sorted(ids)
            first.cut()


def test_write_takes_place_once_when_the_first_host_hangs_after_it(database_url: str) -> None:
    """The answer does not arrive; the second try, on the other host, finds what the first has written."""
    with TcpProxy(database_url) as first, TcpProxy(database_url) as second:
        url = url_of(database_url, [port_of(first), port_of(second)])
        with Provider(url, call_timeout=TIMEOUT, pool_size=1) as provider:
            provider.get_runnable_events(at(0))
            first.fault = Silence()
            id = provider.create_event(published())
            assert provider.get_runnable_events(at(0)) == [id]
            assert second.connections
            first.cut()


@pytest.mark.parametrize("is_in_environment", [True, False])
def test_last_host_of_a_service_file_is_reached_when_the_others_are_silent(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_in_environment: bool
) -> None:
    with silent_hosts(4) as ports, TcpProxy(database_url) as proxy:
        ports.append(port_of(proxy))
        hosts = f"host={','.join('127.0.0.1' for _ in ports)}\nport={','.join(map(str, ports))}"
        (tmp_path / "services").write_text(f"[several]\n{hosts}\n")
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        service = {"service": "several", "sslmode": "disable"}
        if is_in_environment:
            monkeypatch.setenv("PGSERVICE", service.pop("service"))
        url = make_url(database_url).set(host=None, port=None, query=service)
        with Provider(url, call_timeout=TIMEOUT) as provider:
            id = provider.create_event(published())
            assert provider.get_event(id).id == id
