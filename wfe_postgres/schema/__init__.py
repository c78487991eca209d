"""The store's schema: which revision it is at, how to upgrade it, whether it is what it should be."""

from wfe_postgres.schema.catalogue import Difference, catalogue, check, compare, differences
from wfe_postgres.schema.migrations import upgrade_script
from wfe_postgres.schema.revisions import HEAD, REVISIONS, TABLES, current_revision
from wfe_postgres.schema.store import ensure, upgrade

__all__ = [
    "HEAD",
    "REVISIONS",
    "TABLES",
    "Difference",
    "catalogue",
    "check",
    "compare",
    "current_revision",
    "differences",
    "ensure",
    "upgrade",
    "upgrade_script",
]
