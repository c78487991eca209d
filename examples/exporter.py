"""A Prometheus exporter: every scrape asks the store once how it stands.

    python examples/exporter.py [PORT]

It works on the database that WFE_DATABASE_URL names, else on a private PostgreSQL. While the store cannot be asked it
answers 503, so Prometheus counts the target as down. On a store of millions of rows scrape once a minute, not more:
workflows and errors are counted by reading them.
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
    """The statistics in Prometheus' text format; all of them are gauges, because purges make them fall."""
    for status, number in found.workflows.items():
        yield f'wfe_workflows{{status="{status}"}} {number}'
    for name in ("runnable_due", "unprocessed_events", "due_commands", "execution_errors"):
        yield f"wfe_{name} {getattr(found, name)}"
    for state in ("open", "held", "expired"):
        yield f'wfe_subscriptions{{state="{state}"}} {getattr(found, f"{state}_subscriptions")}'
    for name in ("oldest_due", "oldest_unprocessed_event", "oldest_due_command"):
        oldest = getattr(found, name)
        # What is due at once, as a new workflow is, stands at the epoch: it has no age.
        since = oldest.timestamp() if oldest else 0.0
        age = time.time() - found.clock_offset - since if since > 0 else 0.0
        yield f"wfe_{name}_age_seconds {max(age, 0.0):.3f}"
    yield f"wfe_clock_offset_seconds {found.clock_offset:.3f}"


class Exporter(BaseHTTPRequestHandler):
    """Answers each request with the metrics of this moment."""

    def __init__(self, provider: PostgresPersistenceProvider, *connection: Any) -> None:
        self.provider = provider
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Any path will do."""
        try:
            lines = metrics(self.provider.get_statistics())
            self.answer(200, "".join(f"{line}\n" for line in lines))
        except WfeError as error:
            self.answer(503, f"{error}\n")

    def answer(self, code: int, text: str) -> None:
        """Send the text."""
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(text.encode())


def ready_provider(url: str) -> PostgresPersistenceProvider:
    """A provider that answers sooner than Prometheus gives up a scrape, which is after 10 seconds."""
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
