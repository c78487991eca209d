"""procrastinate and pgqueuer (PyPI): a task without a body, as in their documentation, one at a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

import psycopg

from benchmarks.queues import Queue, Taken


@contextmanager
def procrastinate_queue(url: str) -> Iterator[Queue]:
    """Jobs of procrastinate."""
    library: Any = import_module("procrastinate")
    taken: list[Taken] = []

    def new_app(connector: Any) -> tuple[Any, Any]:
        app = library.App(connector=connector)

        @app.task(name="work")  # type: ignore[untyped-decorator]
        async def work(id: str) -> None:
            taken[-1](id)

        return app, work

    app, work = new_app(library.SyncPsycopgConnector(conninfo=url))
    with app.open():
        app.schema_manager.apply_schema()

        async def run(stop: asyncio.Event) -> None:
            worker, _ = new_app(library.PsycopgConnector(conninfo=url))
            async with worker.open_async():
                running = asyncio.create_task(worker.run_worker_async(install_signal_handlers=False))
                await stop.wait()
                running.cancel()
                await asyncio.wait([running])

        yield Queue(lambda it: work.defer(id=it), lambda callback: _working(run, taken, callback))


@contextmanager
def pgqueuer_queue(url: str) -> Iterator[Queue]:
    """Jobs of pgqueuer."""
    library: Any = import_module("pgqueuer")
    drivers: Any = import_module("pgqueuer.db")
    queries: Any = import_module("pgqueuer.queries")
    asyncpg: Any = import_module("asyncpg")
    taken: list[Taken] = []

    @asynccontextmanager
    async def connected() -> AsyncIterator[Any]:
        with psycopg.connect(url) as connection:
            info = connection.info
            address = {"host": info.host, "port": info.port, "user": info.user, "password": info.password or None}
            opened = await asyncpg.connect(**address, database=info.dbname)
        try:
            # With psycopg its worker is woken after a second.
            async with drivers.AsyncpgDriver(opened) as driver:
                yield driver
        finally:
            await opened.close()

    async def install() -> None:
        async with connected() as driver:
            await queries.Queries(driver).install()

    async def run(stop: asyncio.Event) -> None:
        async with connected() as driver:
            manager = library.PgQueuer(driver)

            @manager.entrypoint("work")  # type: ignore[untyped-decorator]
            async def work(job: Any) -> None:
                taken[-1](job.payload.decode())

            running = asyncio.create_task(manager.run())
            await stop.wait()
            manager.shutdown.set()
            await asyncio.wait([running], timeout=5)
            running.cancel()

    asyncio.run(install())
    with psycopg.connect(url, autocommit=True) as connection:
        sync = queries.SyncQueries(drivers.SyncPsycopgDriver(connection))
        yield Queue(lambda it: sync.enqueue("work", it.encode()), lambda callback: _working(run, taken, callback))


@contextmanager
def _working(
    run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], taken: list[Taken], callback: Taken
) -> Iterator[None]:
    """A worker in a thread with an event loop of its own."""
    taken.append(callback)
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    begun = threading.Event()

    async def main() -> None:
        stops.append((asyncio.get_running_loop(), asyncio.Event()))
        begun.set()
        await run(stops[0][1])

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    begun.wait()
    yield
    loop, stop = stops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
