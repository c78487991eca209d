"""The provider's own engine: what a URL means, and what a connection of ours is like."""

import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from wfe_postgres.connections.deadlines import BoundedConnection

_DRIVERS = {"postgres", "postgresql", "postgresql+psycopg"}
_TLS_FOR_CERTAIN = {"require", "verify-ca", "verify-full"}
_LONGEST_CONNECT = 10.0  # seconds
_REQUIRE_AUTH_SINCE = 160000  # libpq's version
_KEEPALIVES_IDLE = 60
"""Seconds. A connection can rest for hours in the pool, and many firewalls forget one that is silent for minutes."""
_ADDRESSES = {"host", "hostaddr", "port"}
_MAKES_CONNECTIONS = {"creator", "pool", "module"}
"""Options of `create_engine` by which an application makes the connections itself."""


def make_engine(url: str | URL, call_timeout: float | None, options: dict[str, Any]) -> Engine:
    """An engine with a pool of up to 10 connections; `options` are `create_engine`'s and win over ours.

    ValueError: the URL is none of PostgreSQL's; its text is not repeated, because a password may be in it. Or an
    option makes the connections, on which then no `call_timeout` could be kept.
    """
    parsed = parse_url(url)
    ours: dict[str, Any] = {"hide_parameters": True}
    if "poolclass" not in options:
        ours |= {"pool_size": 10, "max_overflow": 0, "pool_timeout": min(30.0, (call_timeout or 60.0) / 2)}
        # One busy thread keeps one server process, with warm caches: by turns, a host takes 1.25 times as long.
        ours["pool_use_lifo"] = True
    ours |= options
    given = ours.get("connect_args", {})
    longest = _longest_connect(call_timeout)
    address = {name: value for name in ("host", "port") if (value := getattr(parsed, name))}
    defaults = _connect_arguments(address | parsed.query | given, longest)
    ours["connect_args"] = defaults | given
    if call_timeout is None:
        return create_engine(parsed, **ours)
    if own := sorted(_MAKES_CONNECTIONS & options.keys()):
        raise ValueError(f"with {own[0]}= no call_timeout can be kept: pass call_timeout=None, or use from_engine()")
    module = _bounded_psycopg(call_timeout / 2, longest if "connect_timeout" in defaults else math.inf)
    engine = create_engine(parsed, module=module, **ours)
    event.listen(engine, "connect", _end_connect_timeout)
    return engine


def _longest_connect(call_timeout: float | None) -> float:
    """How many seconds one try to connect may take, with all hosts."""
    if call_timeout is None:
        return _LONGEST_CONNECT
    return min(_LONGEST_CONNECT, max(call_timeout / 4, min(2.0, call_timeout / 2)))


def _bounded_psycopg(seconds: float, longest: float) -> Any:
    """The module psycopg, but for connections that have a deadline: at first one for what SQLAlchemy asks of them."""

    def connect(*arguments: Any, **keywords: Any) -> BoundedConnection:
        named = keywords.get("hostaddr") or keywords.get("host") or os.environ.get("PGHOST", "")
        hosts = str(named).count(",") + 1
        return BoundedConnection.connect_within(seconds, longest / hosts, hosts, *arguments, **keywords)

    return SimpleNamespace(**vars(psycopg) | {"connect": connect})


def _end_connect_timeout(connection: psycopg.Connection[Any], _: object) -> None:
    if not isinstance(connection, BoundedConnection):
        raise ValueError(
            "a do_connect listener must change the arguments and make no connection, on which no call_timeout could be "
            "kept: or pass call_timeout=None"
        )
    connection.deadline = math.inf


def parse_url(url: str | URL) -> URL:
    """The URL as SQLAlchemy reads it, or else libpq. ValueError, which does not repeat its text: neither can."""
    parsed, is_text = None, not isinstance(url, URL)
    with suppress(ArgumentError, ValueError, TypeError):
        parsed = make_url(url)
    if parsed is None or re.search("[%,]" if is_text else "%", parsed.host or ""):
        with suppress(ArgumentError, ValueError, psycopg.Error):
            parsed = _parse_by_libpq(parsed.render_as_string(False) if parsed else str(url))
    if parsed is None or parsed.drivername not in _DRIVERS:
        raise ValueError("the URL must look like postgresql://user:password@host:port/database")
    host, port = str(parsed.query.get("host", "")), parsed.query.get("port")
    if isinstance(port, str) and "," not in port:  # it counts for all hosts; SQLAlchemy asks for one for each
        parsed = parsed.update_query_dict({"port": ",".join([port] * (host.count(",") + 1))})
    return parsed.set(drivername="postgresql+psycopg")


def _parse_by_libpq(url: str) -> URL:
    """`host1:5432,host2:5433` and `%2Fdirectory`, which SQLAlchemy takes only as options of the query."""
    scheme, _, rest = url.partition("://")
    address, _, query = rest.partition("?")
    found = {name: str(value) for name, value in conninfo_to_dict(f"postgresql://{address}").items()}
    hosts: dict[str, str] = {name: found[name] for name in ("host", "port") if name in found}
    int(hosts.get("port", "").replace(",", "") or 0)  # ValueError: it is no number
    given = make_url(f"{scheme}://?{query}").set(username=found.get("user"), password=found.get("password"))
    return given.set(database=found.get("dbname"), query=hosts).update_query_dict(given.query)


def _connect_arguments(given: Mapping[str, Any], longest: float) -> dict[str, Any]:
    """What libpq is told, where the URL and `connect_args` (`given`), its service and environment do not say it."""
    # libpq tells what it has merged only of a connection; this one it refuses before it opens a socket.
    told = {name: str(given[name]) for name in ("service", "sslmode", "sslrootcert") if name in given}
    refused = psycopg.pq.PGconn.connect_start(make_conninfo(**told | {"target_session_attrs": "?"}).encode())
    merged = {**{it.keyword.decode(): (it.val or b"").decode() for it in refused.info}, **given}
    arguments: dict[str, Any] = {"fallback_application_name": "wfe_postgres", "client_encoding": "utf8"}
    if not merged["connect_timeout"]:
        arguments["connect_timeout"] = max(2, math.ceil(longest))  # libpq counts whole seconds, and at least 2
    if not merged["keepalives_idle"]:
        arguments["keepalives_idle"] = _KEEPALIVES_IDLE
    if merged["service"] and not given.keys() & _ADDRESSES:
        # psycopg tries several hosts in turn, each with its time, only if it is told of them.
        arguments |= {name: merged[name] for name in _ADDRESSES if merged[name]}
    asked = merged.get("require_auth") or merged["sslmode"] in _TLS_FOR_CERTAIN
    if not asked and psycopg.pq.version() >= _REQUIRE_AUTH_SINCE:
        # With the default sslmode=prefer anyone on the way can decline TLS and then ask for the password in clear.
        arguments["require_auth"] = "!password"
    return {name: value for name, value in arguments.items() if name not in given}
