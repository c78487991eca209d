"""The provider, and the provider joined to Django's transaction."""

from django.conf import settings
from django.db import connection

from wfe_postgres import PostgresPersistenceProvider, PostgresRepositories

wfe = PostgresPersistenceProvider(settings.STORE_URL)
"""Uses its own connection pool; connections are opened on demand."""


def joined() -> PostgresRepositories:
    """The repositories on Django's connection; `transaction.atomic()` commits or rolls back their writes."""
    connection.ensure_connection()
    return wfe.using(connection.connection)
