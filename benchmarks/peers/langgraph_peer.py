"""LangGraph's PostgresSaver (PyPI `langgraph-checkpoint-postgres`), called like in LangGraph's execution loop.

For each step the loop stores the writes of the step (`put_writes`) and the checkpoint after it (`put`). With
durability="sync" both complete before the next step starts. The cost of the graph itself is not included.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from uuid import uuid4

from benchmarks.harness import Call


@contextmanager
def langgraph_workflow(url: str, steps: int) -> Iterator[Call]:
    """See `Peer`. The saver is created with `from_conn_string`, its tables with `setup`."""
    postgres: Any = import_module("langgraph.checkpoint.postgres")
    with postgres.PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        yield lambda: _run(saver, steps)


def _run(saver: Any, steps: int) -> None:
    base: Any = import_module("langgraph.checkpoint.base")
    config: Any = {"configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}}
    checkpoint: Any = base.empty_checkpoint()
    config = saver.put(config, checkpoint, {"source": "input", "step": -1, "parents": {}}, {})
    version = None
    for step in range(steps):
        result = {"done": step, "charged": {"amount": 1995, "currency": "EUR"}, "note": "as ordered"}
        saver.put_writes(config, [("result", result)], str(uuid4()))
        version = saver.get_next_version(version, None)
        checkpoint = {
            **checkpoint,
            "id": str(base.uuid6(clock_seq=step)),
            "channel_values": {"result": result},
            "channel_versions": {"result": version},
        }
        config = saver.put(config, checkpoint, {"source": "loop", "step": step, "parents": {}}, {"result": version})
