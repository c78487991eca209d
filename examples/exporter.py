"""A Prometheus exporter; every scrape reads the statistics of the store once.

    python examples/exporter.py [PORT]

It uses the database in WFE_DATABASE_URL, or a temporary PostgreSQL server. If the store is not available it responds
with 503, so that Prometheus marks the target as down. With millions of rows, scrape at most once a minute, because
workflows and errors are counted with a scan.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from wfe_postgres import PostgresPersistenceProvider, StoreStatistics, WfeError
from wfe_postgres.embedded import temporary_postgres


def metrics(found: StoreStatistics) -> Iterator[str]:
    """The statistics in the Prometheus text format. All metrics are gauges, because purges decrease them."""
    for status, number in found.workflows.items():
        yield f'wfe_workflows{{status="{status}"}} {number}'
    for name in ("runnable_due", "unprocessed_events", "due_commands", "execution_errors"):
        yield f"wfe_{name} {getattr(found, name)}"
    for state in ("open", "held", "expired"):
        yield f'wfe_subscriptions{{state="{state}"}} {getattr(found, f"{state}_subscriptions")}'
    for name in ("oldest_due", "oldest_unprocessed_event", "oldest_due_command"):
        oldest = getattr(found, name)
        # A workflow that is due immediately, such as a new one, has the time 0 and no age.
        since = oldest.timestamp() if oldest else 0.0
        age = time.time() - found.clock_offset - since if since > 0 else 0.0
        yield f"wfe_{name}_age_seconds {max(age, 0.0):.3f}"
    yield f"wfe_clock_offset_seconds {found.clock_offset:.3f}"


class Exporter(BaseHTTPRequestHandler):
    """Responds to each request with the current metrics."""

    def __init__(self, provider: PostgresPersistenceProvider, *connection: Any) -> None:
        self.provider = provider
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Respond with the metrics, for any path."""
        try:
            lines = metrics(self.provider.get_statistics())
            self.answer(200, "".join(f"{line}\n" for line in lines))
        except WfeError as error:
            self.answer(503, f"{error}\n")

    def answer(self, code: int, text: str) -> None:
        """Send a plain-text response."""
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())


def ready_provider(url: str) -> PostgresPersistenceProvider:
    """A provider with timeouts below Prometheus' default scrape timeout of 10 seconds."""
    provider = PostgresPersistenceProvider(url, call_timeout=8.0, retry_budget=2.0)
    provider.ensure_store_exists()
    return provider


def main() -> None:
    """Serve until Ctrl-C."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9464
    with (
        temporary_postgres("WFE_DATABASE_URL") as url,
        ready_provider(url) as provider,
        HTTPServer(("127.0.0.1", port), partial(Exporter, provider)) as server,
    ):
        print(f"http://127.0.0.1:{server.server_port}/metrics", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
