"""`python -m django work`: the host of the orders' workflows. Any number of these may run at once."""

import signal
import threading

from django.core.management.base import BaseCommand

from examples.django_shop.workflow import ShopHost


class Command(BaseCommand):
    """Until SIGTERM or SIGINT."""

    help = "Run the orders' workflows."

    def handle(self, **_: object) -> None:
        """Poll, and between two polls rest for a moment."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        ShopHost().run(stop, interval=0.2)
