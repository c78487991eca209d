"""What a process that makes many calls keeps of them: nothing, so there is nothing that has to be cleared at times."""

import gc
import sys
import threading

from wfe_postgres import PostgresPersistenceProvider
from wfe_postgres.testing.conformance.support import event

CALLS = 300


def test_memory_and_threads_do_not_grow_with_the_number_of_calls(provider: PostgresPersistenceProvider) -> None:
    id = provider.create_event(event())

    def run() -> tuple[int, int]:
        for _ in range(CALLS):
            provider.get_event(id)
            provider.mark_event_processed(id)
        gc.collect()
        return sys.getallocatedblocks(), threading.active_count()

    run()
    blocks, threads = run()
    blocks_after, threads_after = run()
    assert blocks_after - blocks < CALLS / 3
    assert threads_after == threads
