"""The store, and the store inside Django's own transaction."""

from django.conf import settings
from django.db import connection

from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories

wfe = PostgresPersistenceProvider(settings.STORE_URL)
"""On connections of its own, which are made when they are needed: for the host."""


def joined() -> PostgresRepositories:
    """The store on Django's own connection: `transaction.atomic()` commits or rolls back what it writes."""
    connection.ensure_connection()
    return wfe.using(connection.connection)
