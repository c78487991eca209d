"""`python -m django work`: runs the order workflows. Several processes may run concurrently."""

from django.core.management.base import BaseCommand

from examples.shop.django_front.workflow import host


class Command(BaseCommand):
    """Runs a host until SIGTERM or SIGINT."""

    help = "Run the order workflows."

    def handle(self, **_: object) -> None:
        """Run the host."""
        host.run()
