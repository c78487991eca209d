"""`python -m django work`: runs the order workflows. Several processes may run concurrently."""

import signal
import threading

from django.core.management.base import BaseCommand

from examples.django_shop.workflow import ShopHost


class Command(BaseCommand):
    """Runs a host until SIGTERM or SIGINT."""

    help = "Run the order workflows."

    def handle(self, **_: object) -> None:
        """Run the host."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        ShopHost().run(stop, interval=0.2)
