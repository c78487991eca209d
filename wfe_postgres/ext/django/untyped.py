"""Django carries no types: its classes that ours are derived from, as far as a type checker need know them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class AppConfig:
        """Of `django.apps`."""

    class BaseCommand:
        """Of `django.core.management.base`."""

    class Manager:
        """Of `django.db.models`."""

        def get_queryset(self) -> Any:
            """See Django."""

    class Model:
        """Of `django.db.models`."""

        objects: Any

        def __init__(self, **fields: Any) -> None: ...

else:
    from django.apps import AppConfig
    from django.core.management.base import BaseCommand
    from django.db.models import Manager, Model

__all__ = ["AppConfig", "BaseCommand", "Manager", "Model"]
