"""What the Dask tests do with a run, and what they read of its driver's half."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiosupervise.integrations._remote.messages import Phase

from .eventually import eventually


async def finish(run: Any) -> None:
    """Await a run in a task of its own."""
    await run


@asynccontextmanager
async def started(run: Any) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a batch beside the block; at the end of the block it is cancelled if it still runs."""
    task = asyncio.create_task(finish(run))
    try:
        yield task
    finally:
        task.cancel()
        _, hanging = await asyncio.wait([task], timeout=30)
        assert not hanging


def remote(run: Any) -> Any:
    """Return the jobs of a run that has started."""
    return run._pump._engine


def sent(run: Any) -> dict[str, Any]:
    """Return the chunks that are under way, by their keys."""
    return {} if run._pump is None else remote(run)._scheduler._sent


def acknowledged(run: Any, phase: Phase) -> list[bool]:
    """Tell of each worker whether it has answered a visit that brought this phase."""
    return [worker.acknowledged is phase for worker in remote(run)._poller._workers.values()]


async def two_polls(run: Any) -> None:
    """Wait until each worker has answered two visits more: the second one began after this was called."""
    await _visits(run)
    await _visits(run)


async def _visits(run: Any) -> None:
    workers = remote(run)._poller._workers
    before = {address: worker.reply for address, worker in workers.items()}
    await eventually(lambda: all(workers[address].reply is not news for address, news in before.items()))
