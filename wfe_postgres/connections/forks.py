"""A pool belongs to the process that filled it: a child process gets a pool of its own."""

import os
import threading
import weakref

from sqlalchemy import Engine

_owners: weakref.WeakKeyDictionary[Engine, int] = weakref.WeakKeyDictionary()
"""The process id under which each engine's pool was filled."""

_lock = threading.Lock()


def reset_pool_after_fork(engine: Engine) -> None:
    """Replace the engine's pool if it was inherited from a parent process, whose connections stay open.

    To be called before a connection is taken: a fork made by C code, as uWSGI's, runs none of Python's hooks.
    """
    pid = os.getpid()
    if _owners.get(engine) == pid:
        return
    with _lock:
        if _owners.setdefault(engine, pid) != pid:
            engine.dispose(close=False)
            _owners[engine] = pid


def _reset_all() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it
    for engine in list(_owners):
        reset_pool_after_fork(engine)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)
