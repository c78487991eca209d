"""`python -m wfe_postgres.embedded`: a server to try things on, until Ctrl-C or SIGTERM."""

import signal
import sys

from wfe_postgres.embedded import EmbeddedPostgres

ENDS = {signal.SIGINT, signal.SIGTERM}


def main() -> None:
    """Print the server's URL, and keep the server until a signal comes."""
    with EmbeddedPostgres() as server:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stderr.write("Ctrl-C ends the server and removes its data.\n")
        signal.sigwait(ENDS)


if __name__ == "__main__":
    main()
