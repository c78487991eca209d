"""A forkserver context for processes that are killed: imports are preloaded and there are no threads."""

import multiprocessing

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["pytest", "tests.conftest", "tests.migrations.stores", "alembic.command"])
