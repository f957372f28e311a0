"""Clusters for tests, what they do with a run, and what they read of its driver's half."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from aiosupervise.integrations._remote.messages import Phase

from .eventually import eventually


@contextmanager
def two_processes() -> Iterator[LocalCluster]:
    """Start a cluster of two worker processes, which can import the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**settings) as cluster:
            yield cluster


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
    """Return the chunks that are sent and not done, by their keys."""
    return {} if run._pump is None else remote(run)._scheduler._sent


def acknowledged(run: Any, phase: Phase) -> list[bool]:
    """Return for each worker whether it has replied to a poll with this phase."""
    return [worker.acknowledged is phase for worker in remote(run)._poller._workers.values()]


async def two_polls(run: Any) -> None:
    """Wait for two more replies of each worker: the second poll began after this was called."""
    await _one_poll(run)
    await _one_poll(run)


async def _one_poll(run: Any) -> None:
    workers = remote(run)._poller._workers
    before = {address: worker.reply for address, worker in workers.items()}
    await eventually(lambda: all(workers[address].reply is not reply for address, reply in before.items()))


def ours() -> list[asyncio.Task[Any]]:
    """The tasks that the library has made, those of the worker in this process included."""
    return [task for task in asyncio.all_tasks() if "aiosupervise" in str(getattr(task.get_coro(), "cr_code", ""))]
