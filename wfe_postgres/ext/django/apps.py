"""The app `wfe`."""

from typing import Any

from django.db.models.signals import pre_migrate

from wfe_postgres.ext.django import checks, conf, current, engines
from wfe_postgres.ext.django.untyped import AppConfig


class WfeConfig(AppConfig):
    """Its label is `wfe`, which the URLs of its admin, its permissions and its templates have."""

    name: str = "wfe_postgres.ext.django"
    label: str = "wfe"
    verbose_name: str = "Workflows"
    default_auto_field: str = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and let `migrate` make the store."""
        engines.remember_databases()
        checks.register_all()
        pre_migrate.connect(_make_store, sender=self)


def _make_store(using: str, **_: Any) -> None:
    """Create or upgrade the store.

    By a signal and not by a migration: `migrate wfe zero` cannot take it away, `--fake` and MIGRATION_MODULES cannot
    leave it out, it follows an upgrade of the library without a migration for each, and the project's own migrations
    find the store, whatever they were squashed to.
    """
    if using == conf.read().database:
        current.workflows().provider.ensure_store_exists()
