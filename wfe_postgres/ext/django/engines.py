"""A provider on the database of an alias in DATABASES, with the connection parameters that Django uses."""

from functools import partial
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql
from sqlalchemy import URL, event
from sqlalchemy.pool import NullPool

from wfe_postgres.ext.django.conf import Options
from wfe_postgres.provider import PostgresPersistenceProvider

_OF_DJANGO = ("context", "cursor_factory", "row_factory", "client_encoding", "autocommit")
"""Parameters that concern how Django sends and reads its own statements."""
_names: dict[str, Any] = {}
"""The database of each alias before a test runner can have replaced it."""


def remember_databases() -> None:
    """To be called when Django starts."""
    for alias, settings in connections.settings.items():
        _names.setdefault(alias, settings.get("NAME"))


def is_test_database(alias: str) -> bool:
    """Whether a test runner has put a database of its own in place of that of the settings."""
    name = connections[alias].settings_dict["NAME"]
    return bool(name != _names.get(alias, name))


def make_provider(options: Options) -> PostgresPersistenceProvider:
    """A provider on the alias's database. Each new connection asks for the parameters, so passwords may change.

    In a test database it keeps no connection open: it could not be copied or dropped otherwise.
    """
    alias, keywords = options.database, {"schema": options.schema, **options.provider}
    settings = connections[alias].settings_dict
    if is_test_database(alias):
        pooling = ("pool", "max_overflow")
        keywords = {name: value for name, value in keywords.items() if not name.startswith(pooling)}
        keywords["poolclass"] = NullPool
    url = URL.create("postgresql+psycopg", settings["USER"] or None, database=settings["NAME"] or None)
    given = keywords.pop("connect_args", {})
    provider = PostgresPersistenceProvider(url, connect_args=_parameters(alias) | given, **keywords)
    event.listen(provider.engine, "do_connect", partial(_renew, alias, given))
    if role := settings["OPTIONS"].get("assume_role"):
        event.listen(provider.engine, "connect", partial(_assume, role))
    return provider


def _parameters(alias: str) -> dict[str, Any]:
    parameters: dict[str, Any] = connections[alias].get_connection_params()
    return {name: value for name, value in parameters.items() if name not in _OF_DJANGO}


def _renew(alias: str, given: dict[str, Any], _dialect: object, _record: object, _args: object, keywords: Any) -> None:
    keywords.update(_parameters(alias) | given)


def _assume(role: str, driver: psycopg.Connection[Any], _record: object) -> None:
    driver.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    driver.commit()  # or the end of the first transaction would take it back
