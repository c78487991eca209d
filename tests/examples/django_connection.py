"""What is done in a process of its own that is set up for Django: how its connection fares when it is borrowed."""

import os
from datetime import datetime
from typing import Any

from wfe_postgres import PostgresRepositories, WorkflowExistsError, WorkflowInstance

TYPES = ("text", "int8", "json", "jsonb", "timestamptz", "numeric")


def set_up(url: str) -> None:
    """Make this process one of the shop's."""
    import django

    os.environ |= {"WFE_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "examples.shop.django_front.settings"}
    django.setup()


def state() -> dict[str, Any]:
    """All that Django and psycopg know of the connection, and what the server was told for the session."""
    from django.db import connection

    driver = connection.connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), txid_current(), '{\"a\": 1}'::jsonb, now() - now()")
        seen = cursor.fetchall()
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY name")
        settings = cursor.fetchall()
    return {
        "django": {it: getattr(connection, it) for it in ("autocommit", "in_atomic_block", "needs_rollback")},
        "savepoints": [len(connection.savepoint_ids), connection.savepoint_state, len(connection.run_on_commit)],
        "loaders": [
            str(driver.adapters.get_loader(driver.adapters.types[name].oid, format))
            for name in TYPES
            for format in (0, 1)
        ],
        "dumpers": [str(driver.adapters.get_dumper(kind, format)) for kind in (str, int, datetime) for format in "st"],
        "factories": [str(driver.row_factory), str(driver.cursor_factory)],
        "options": [driver.autocommit, str(driver.isolation_level), driver.read_only, driver.prepare_threshold],
        "status": driver.info.transaction_status.name,
        "prepared": len(driver._prepared._names),
        "seen": seen,
        "settings": settings,
    }


def joined() -> PostgresRepositories:
    """The repositories on Django's connection."""
    from wfe_postgres.ext.django import current

    return current.joined()


def borrow() -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Django's state before and after every kind of use of its connection, and what on_commit has seen."""
    from django.db import transaction

    from wfe_postgres.ext.django import provider

    hooks: list[str] = []
    with transaction.atomic(), transaction.atomic():
        before = state()
        tx = joined()
        tx.create_new_workflow(workflow := WorkflowInstance("order", 1, {"a": [1, "é"]}, name="borrowed"))
        loaded = tx.get_workflow_instance(workflow.id)
        loaded.data["b"] = 1e23
        tx.persist_workflow(loaded)
        try:
            tx.create_new_workflow(WorkflowInstance("order", 1, name="borrowed"))
        except WorkflowExistsError:
            tx.find_workflows()
        after = state()
        transaction.on_commit(lambda: hooks.append(provider().get_workflow_instance(workflow.id).name))
        hooks += [it.name for it in provider().find_workflows().items]  # on another connection: nothing yet
    return before, after, hooks


def savepoints() -> list[str]:
    """Three workflows in savepoints that are rolled back, one beside them; who is left."""
    from django.db import connection, transaction

    from wfe_postgres.ext.django import provider

    def create(name: str) -> None:
        joined().create_new_workflow(WorkflowInstance("order", 1, name=name))

    with transaction.atomic():
        create("outer")
        try:
            with transaction.atomic():
                create("inner")
                raise LookupError
        except LookupError:
            pass
        mark = transaction.savepoint()
        create("marked")
        transaction.savepoint_rollback(mark)
        try:
            with transaction.atomic():
                create("before a refusal")
                create("outer")
        except WorkflowExistsError:
            create("after a refusal")
        assert connection.savepoint_ids == []
    assert not connection.in_atomic_block
    return sorted(it.name for it in provider().find_workflows().items)


def all_of_it(url: str) -> tuple[dict[str, Any], dict[str, Any], list[str], list[str]]:
    """`borrow` and `savepoints`: one process, since Django takes a moment to set up."""
    set_up(url)
    return *borrow(), savepoints()
