"""System checks: the setting `WFE`, the database's alias, the definitions, and the store's schema revision."""

from collections.abc import Collection, Iterator
from typing import Any

from django.core import checks
from django.db import connections

from wfe_postgres.contract.errors import PersistenceError
from wfe_postgres.ext.django import conf, current
from wfe_postgres.host import WorkflowDefinition
from wfe_postgres.schema.revisions import HEAD, REVISIONS, current_revision, describe_revision, read_in_transaction


def register_all() -> None:
    """Register the checks with Django."""
    checks.register(check_settings, "wfe")
    checks.register(check_store, checks.Tags.database)


def check_settings(app_configs: object, **_: Any) -> list[Any]:
    """The setting, and what it names."""
    return list(_settings_errors())


def _settings_errors() -> Iterator[Any]:
    found = [checks.Error(it, id="wfe.E001") for it in conf.problems()]
    yield from found
    if found:
        return
    options = conf.read()
    problem = database_problem(options.database)
    if problem is not None:
        yield checks.Error(problem, id="wfe.E002")
    for path in (*options.definitions, *options.middleware):
        try:
            conf.load([path], WorkflowDefinition if path in options.definitions else object)
        except Exception as error:
            yield checks.Error(f"WFE: {path!r}: {type(error).__name__}: {error}", id="wfe.E003")


def database_problem(alias: str) -> str | None:
    """What is wrong with the alias."""
    if alias not in connections:
        return f"WFE['DATABASE']: there is no {alias!r} in DATABASES"
    wrapper = connections[alias]
    if wrapper.vendor != "postgresql":
        return f"WFE['DATABASE']: the store needs PostgreSQL, and {alias!r} is {wrapper.display_name}"
    if wrapper.Database.__name__ != "psycopg":
        return (
            f"WFE['DATABASE']: {alias!r} is connected by {wrapper.Database.__name__}, and `using()` needs psycopg 3: "
            "install psycopg, and use a database backend that takes it"
        )
    return None


def check_store(app_configs: object, databases: Collection[str] | None = None, **_: Any) -> list[Any]:
    """The store's schema revision: with `check --database`, and before `migrate`."""
    options = conf.read()
    if options.database not in (databases or ()) or check_settings(None):
        return []
    engine, schema = current.workflows().provider.engine, options.schema
    try:
        found = read_in_transaction(engine, lambda it: current_revision(it, schema))
    except PersistenceError as error:
        return [checks.Error(f"the store cannot be read: {error}", id="wfe.E005")]
    if found == HEAD:
        return []
    text = describe_revision(found, schema).replace("`wfe-postgres upgrade`", "`manage.py migrate`")
    if found is None or found in REVISIONS:  # no error, since `migrate` checks before it makes the store
        return [checks.Warning(text, id="wfe.W001")]
    return [checks.Error(text, id="wfe.E004")]
