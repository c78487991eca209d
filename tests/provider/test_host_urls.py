"""URLs whose hosts libpq reads and SQLAlchemy does not: several hosts, and directories of Unix sockets."""

import socket
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, make_url

from tests.faults.kit.proxy import TcpProxy
from tests.provider.canaries import PASSWORD, shown
from tests.provider.test_urls import connect_params
from wfe_postgres import PersistenceError, PostgresPersistenceProvider
from wfe_postgres.connections.engines import parse_url
from wfe_postgres.testing.conformance.support import at
from wfe_postgres.testing.conformance.support import event as published

Provider = PostgresPersistenceProvider

URLS = [
    "postgresql://user@%2Fvar%2Frun%2Fpg/db",
    "postgres://us%40er:p%40ss%2F@%2fvar%2frun:5433/d%62?connect_timeout=7",
    "postgresql://host1,host2/db",
    "postgresql://user:secret@host1:5432,host2:5433/db?target_session_attrs=read-write",
    "postgresql://host1,host2:5433",
    "postgresql://host1:5433,host2/db",
    "postgresql://%2Frun%2Fpg,host2:5433/db",
    "postgresql://user@[::1],[fe80::1%25eth0]:5433/db",
    "postgresql:///db?host=host1,host2&port=5433",
    "postgresql://host1,host2/db?port=5433",
    "postgresql://host1:1,host2:2/db?port=3,4",
    "postgresql://host/db?host=%2Frun%2Fpg",
]


def ports(options: Mapping[str, object]) -> list[str]:
    """The port of each host; libpq takes its default where there is none, and one port for all hosts."""
    hosts = str(options["host"]).split(",")
    found = str(options.get("port", "")).split(",")
    return found * len(hosts) if len(found) == 1 else found


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
@pytest.mark.parametrize("url", URLS)
def test_url_means_what_it_means_to_psql(url: str, scheme: str) -> None:
    expected = conninfo_to_dict(url)
    found = connect_params(scheme + url[url.index(":") :])
    assert ports(found) == ports(expected)
    for name, value in expected.items():
        assert name == "port" or str(found[name]) == value
    assert "user" in expected or "user" not in found


def test_parsed_url_is_read_as_sqlalchemy_reads_it() -> None:
    """A port of a `URL` is one of all its hosts, as on an engine of the application's."""
    found = connect_params(URL.create("postgresql", host="host1,host2", port=5433))
    assert (found["host"], ports(found)) == ("host1,host2", ["5433"] * 2)
    found = connect_params(make_url("postgresql://user:p%40@%2Frun%2Fpg:5433/db"))
    assert (found["host"], found["port"], found["password"]) == ("/run/pg", "5433", "p@")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{PASSWORD}@host1:port,host2:5433/db",
        f"postgresql://user:{PASSWORD}@host1:1,host2:-5/db",
        f"mysql://user:{PASSWORD}@host1:1,host2:2/db",
        f"user:{PASSWORD}@host1:1,host2:2/db",
        f"postgresql://user:{PASSWORD}@[::1,host2:2/db",
    ],
)
def test_invalid_url_of_several_hosts_is_rejected_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="must look like") as caught:
        parse_url(url)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_engine_keeps_a_url_that_can_be_rendered_and_read_again() -> None:
    url = f"postgresql://user:{PASSWORD}@%2Frun%2Fpg:5433,host2/db?connect_timeout=7"
    with Provider(url) as provider:
        assert PASSWORD not in repr(provider)
        again = provider.engine.url.render_as_string(hide_password=False)
    assert connect_params(again) | {"context": None} == connect_params(url) | {"context": None}


def test_unknown_option_beside_several_hosts_is_named() -> None:
    with Provider("postgresql://127.0.0.1:1,127.0.0.1:2/db?conect_timeout=7") as provider:
        with pytest.raises(PersistenceError, match="libpq does not know the option conect_timeout") as caught:
            provider.get_runnable_events(at(0))
        assert not caught.value.retryable


def test_store_is_reached_by_the_directory_of_its_socket(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        directories, port = connection.execute(
            "SELECT current_setting('unix_socket_directories'), current_setting('port')"
        ).fetchone() or ("", "")
        user = connection.info.user
    directory = str(directories).split(",")[0].strip()
    if not Path(f"{directory}/.s.PGSQL.{port}").exists():
        pytest.skip("the server has no Unix socket on this machine")
    parts = make_url(database_url)
    login = URL.create("postgresql", user, parts.password, "HOST", database=parts.database)
    text = login.render_as_string(hide_password=False)
    for host in (f"{directory.replace('/', '%2F')}:{port}", f"127.0.0.1:1,{directory.replace('/', '%2f')}:{port}"):
        with Provider(text.replace("HOST", host)) as provider:
            id = provider.create_event(published())
            assert provider.get_event(id).id == id


def test_store_is_reached_by_the_second_host(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        unused = closed.getsockname()[1]
    with TcpProxy(database_url) as proxy:
        parts = make_url(proxy.url)
        url = proxy.url.replace(f"127.0.0.1:{parts.port}", f"127.0.0.1:{unused},127.0.0.1:{parts.port}")
        with Provider(url) as provider:
            provider.create_event(published())
        assert proxy.connections
        for text in (url.replace(str(parts.port), str(unused)), url.replace("/wfe", "/none")):
            with Provider(text, retry_budget=0) as provider, pytest.raises(PersistenceError) as caught:
                provider.create_event(published())
            assert str(parts.password or PASSWORD) not in shown(caught.value)
