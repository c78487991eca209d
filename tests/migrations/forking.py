"""Processes that can be killed: forked from one that has the imports behind it, and no threads."""

import multiprocessing

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["pytest", "tests.conftest", "tests.migrations.stores", "alembic.command"])
