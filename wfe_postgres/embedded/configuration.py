"""Configuration of the embedded server: initdb options, server.conf, pg_hba.conf and the TCP port."""

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

USER = "wfe"
DATABASE = "wfe_test"
PORT = 5432

# The data does not outlive the program, so it need not be durable. `schema.ensure` recognizes the cluster name.
DEFAULTS = {"fsync": "off", "full_page_writes": "off", "cluster_name": "wfe_postgres-embedded"}

HBA = """\
local all,replication all trust
host all,replication all 127.0.0.1/32 scram-sha-256
"""

INITDB = (f"--username={USER}", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync", "--no-instructions")


def server_conf(directory: Path, port: int, *, tcp: bool, settings: Mapping[str, str]) -> str:
    """The text of server.conf. The file is outside the cluster, so that settings of ALTER SYSTEM take precedence."""
    required = {
        "listen_addresses": "127.0.0.1" if tcp else "",
        "port": str(port),
        "unix_socket_directories": str(directory),
        "hba_file": str(directory / "pg_hba.conf"),
    }
    quoted = {name: value.replace("'", "''") for name, value in (required | DEFAULTS | dict(settings)).items()}
    lines = [f"{name} = '{value}'" for name, value in quoted.items()]
    return "\n".join(["include 'data/postgresql.conf'", *lines, ""])


def reserve_port() -> tuple[int, socket.socket]:
    """A free TCP port, and a bound socket that reserves it for the server until the socket is closed.

    The kernel does not assign a bound port to another client, while PostgreSQL can still listen on it, because it sets
    SO_REUSEADDR as well. Without the reservation, a client connection could be assigned the port while the server is
    stopped. On systems other than Linux the socket would block PostgreSQL, so it is closed immediately.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    port: int = reserved.getsockname()[1]
    if sys.platform != "linux":
        reserved.close()
    return port, reserved
