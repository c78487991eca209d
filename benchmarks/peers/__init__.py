"""Other libraries that keep a workflow's steps in PostgreSQL, each with a workflow of its own that does nothing else.

They are in the extra `bench`; what is not installed is left out.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec

from benchmarks.harness import Call
from benchmarks.peers.dbos_peer import dbos_workflow
from benchmarks.peers.langgraph_peer import langgraph_workflow

Peer = Callable[[str, int], AbstractContextManager[Call]]
"""From a database's URL and a number of steps: a call that runs one workflow of so many durable steps."""

_PEERS: dict[str, tuple[str, Peer]] = {
    "DBOS": ("dbos", dbos_workflow),
    "LangGraph": ("langgraph", langgraph_workflow),
}


def installed_peers() -> dict[str, Peer]:
    """The peers that can be run here, by name."""
    return {name: peer for name, (module, peer) in _PEERS.items() if find_spec(module)}
