"""Other libraries that store workflow steps in PostgreSQL, each with a minimal workflow.

They are dependencies of the extra `bench`; libraries that are not installed are skipped.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec

from benchmarks.engines import Engine
from benchmarks.harness import Call
from benchmarks.peers.dbos_peer import dbos_engine, dbos_workflow
from benchmarks.peers.langgraph_peer import langgraph_workflow
from benchmarks.peers.queue_peers import pgqueuer_queue, procrastinate_queue
from benchmarks.queues import Queue

Peer = Callable[[str, int], AbstractContextManager[Call]]
"""Takes a database URL and a number of steps; yields a call that runs one workflow with that many durable steps."""

_PEERS: dict[str, tuple[str, Peer]] = {
    "DBOS": ("dbos", dbos_workflow),
    "LangGraph": ("langgraph", langgraph_workflow),
}


def installed_peers() -> dict[str, Peer]:
    """The installed peers by name."""
    return {name: peer for name, (module, peer) in _PEERS.items() if find_spec(module)}


def installed_engines() -> dict[str, Engine]:
    """The installed peers that run workflows themselves."""
    return {"DBOS": dbos_engine} if "DBOS" in installed_peers() else {}


def installed_queues() -> dict[str, Callable[[str], AbstractContextManager[Queue]]]:
    """The installed libraries with a queue; each takes a database URL."""
    queues = {"procrastinate": procrastinate_queue, "pgqueuer": pgqueuer_queue}
    return {name: queue for name, queue in queues.items() if find_spec(name)}
