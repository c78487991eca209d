"""The provider's own engine: what a URL means, and what a connection of ours is like."""

import os
import time
import weakref
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from wfe_postgres.sessions import Watchdog

_DRIVERS = {"postgres", "postgresql", "postgresql+psycopg"}
_TLS_FOR_CERTAIN = {"require", "verify-ca", "verify-full"}
_LONGEST_CONNECT = 10  # seconds
_REQUIRE_AUTH_SINCE = 160000  # libpq's version


def make_engine(url: str | URL, call_timeout: float | None, options: dict[str, Any], watchdog: Watchdog) -> Engine:
    """An engine with a pool of up to 10 connections; `options` are `create_engine`'s and win over ours.

    ValueError: the URL is none of PostgreSQL's; its text is not repeated, because a password may be in it.
    """
    parsed = _parse(url)
    ours: dict[str, Any] = {"hide_parameters": True}
    if "poolclass" not in options:
        ours |= {"pool_size": 10, "max_overflow": 0, "pool_timeout": min(30.0, (call_timeout or 60.0) / 2)}
    ours |= options
    ours["connect_args"] = _connect_arguments(parsed, longest_connect(call_timeout)) | ours.get("connect_args", {})
    engine = create_engine(parsed, **ours)
    # A parameter of `create_engine` from SQLAlchemy 2.0.43 on, and without effect before.
    engine.dialect.skip_autocommit_rollback = True
    _bound_first_connect(engine, watchdog, call_timeout)
    survive_fork(engine)
    return engine


def longest_connect(call_timeout: float | None) -> int:
    """How many seconds one try to connect may take: libpq counts whole ones, and at least 2."""
    return _LONGEST_CONNECT if call_timeout is None else max(2, min(_LONGEST_CONNECT, int(call_timeout / 4)))


def reserve(call_timeout: float | None) -> float:
    """How many seconds before its deadline a call begins no new try."""
    return 0.0 if call_timeout is None else min(longest_connect(call_timeout), call_timeout / 2)


def _bound_first_connect(engine: Engine, watchdog: Watchdog, call_timeout: float | None) -> None:
    """See to it that what SQLAlchemy asks of its first connection ends, too: libpq's timeout is over by then."""
    initialize = engine.dialect.initialize

    def watched(connection: Connection) -> None:
        with watchdog.watch(time.monotonic() + reserve(call_timeout)) as watch:
            watch.over(connection)
            initialize(connection)

    engine.dialect.initialize = watched  # type: ignore[method-assign]


def survive_fork(engine: Engine) -> None:
    """Let a child process make connections of its own: the inherited ones are the parent's, and stay open."""
    reference = weakref.ref(engine)

    def forget() -> None:
        if (inherited := reference()) is not None:
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError):
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        raise ValueError("the URL must look like postgresql://user:password@host:port/database")
    return parsed.set(drivername="postgresql+psycopg")


def _connect_arguments(url: URL, waiting: int) -> dict[str, Any]:
    """What libpq is told, where the URL says nothing about it."""
    arguments: dict[str, Any] = {
        "application_name": "wfe_postgres",
        "client_encoding": "utf8",
        "connect_timeout": waiting,
    }
    mode = url.query.get("sslmode", os.environ.get("PGSSLMODE"))
    asked = "PGREQUIREAUTH" in os.environ or mode in _TLS_FOR_CERTAIN
    if not asked and psycopg.pq.version() >= _REQUIRE_AUTH_SINCE:
        # With the default sslmode=prefer anyone on the way can decline TLS and then ask for the password in clear.
        arguments["require_auth"] = "!password"
    return {name: value for name, value in arguments.items() if name not in url.query}
