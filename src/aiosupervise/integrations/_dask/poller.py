"""Polls the workers, to receive new outcomes and to inform the workers of the phase of the run.

Theory of operation. Ten times a second, the scheduler is asked for its workers, and each of them is polled. The poll
contains the phase of the run, and the reply contains the outcomes of chunks that are not done yet. Each poll is a
separate task, so that a worker that does not reply does not delay the others.

Invariants, each with a test:
- Every poll contains the phase, so a worker that has just joined also learns that the run was stopped or cancelled.
- Polls only make outcomes arrive earlier: if they fail, outcomes arrive with the results of their chunks.
- A poll without a reply is repeated, so a lost reply does not keep the run waiting.
- At the end, every worker closes the run; a worker that does not reply is abandoned after a while.
- The interval grows with the number of workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import suppress
from typing import Any

from distributed import Client

from aiosupervise._call.tasks import named_task
from aiosupervise._policy.checks import error_text
from aiosupervise.integrations._remote.messages import Phase, PollReply
from aiosupervise.integrations._remote.worker_runs import check_config

from .chunk_scheduler import ChunkScheduler
from .shielded import wait_shielded
from .worker import close_run, poll_run

# Seconds between two polls of a worker, and the seconds added for each worker. Every call goes through the scheduler,
# which may have to open a connection for it (https://github.com/dask/distributed/issues/5095).
_INTERVAL = 0.1
_INTERVAL_PER_WORKER = 0.005

# Seconds to wait for a reply from the scheduler and, at the start and the end, for replies from all workers. Workers
# that do not reply are lost or blocked.
_REPLY_TIMEOUT = 5.0

# Seconds after which a poll without a reply is repeated. It is long, because a worker whose loop was blocked receives
# all repeated polls when its loop runs again.
_CALL_TIMEOUT = 30.0


class _WorkerState:
    """The known state of a worker.

    Attributes:
        acknowledged: the last phase that the worker has acknowledged; None before its first reply.
        reply: the worker's last reply; None if there was none, or if the worker does not take part in the run.
        is_polled: True while a poll is in progress.
    """

    def __init__(self) -> None:
        self.acknowledged: Phase | None = None
        self.reply: PollReply | None = None
        self.is_polled = False


class Poller:
    """Polls the workers on behalf of one run."""

    def __init__(self, run_id: str, scheduler: ChunkScheduler[Any, Any]) -> None:
        self._run_id = run_id
        self._name = scheduler.context.config.name
        self._scheduler = scheduler
        # The limit of each worker. After the first reply, the tally contains the sum of the workers' limits instead.
        self._limit = scheduler.context.tally.limit
        self._loop = asyncio.get_running_loop()
        self._workers: dict[str, _WorkerState] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._early = asyncio.Event()

    async def open(self, client: Client) -> None:
        """Find the workers, check that they can load the function, and start polling them."""
        self._set_workers(await client.nthreads())
        calls = self._call_all(client, check_config, self._scheduler.config)
        try:
            if calls:
                await asyncio.wait(calls, timeout=_REPLY_TIMEOUT)
        finally:
            await _cancel(calls)
        # The replies that arrived in time, or the errors of the calls.
        for problem in [call.result() for call in calls if call.done() and not call.cancelled()]:
            # An OSError comes from a worker that has just been lost.
            if problem and not isinstance(problem, OSError):
                why = error_text(problem) if isinstance(problem, BaseException) else problem
                raise RuntimeError(
                    f"the workers cannot unpickle {self._name}: are its module and aiosupervise installed there, in "
                    f"the same versions? {why}"
                )
        self._create_task(self._poll_all(client), "poller")

    def status(self) -> str:
        """Return the name of a worker that starts no jobs at the moment, and the reason, or an empty string."""
        statuses = ((address, worker.reply.status) for address, worker in self._workers.items() if worker.reply)
        return next((f"worker {address} {status}" for address, status in statuses if status), "")

    def poll_now(self) -> None:
        """Poll without waiting for the end of the interval, because the phase of the run has changed."""
        self._early.set()

    async def close(self, client: Client) -> None:
        """Make every worker close the run."""
        await _cancel(self._tasks)
        await _finish([self._create_task(self._find_last_workers(client), "last check of the workers")])
        await _finish(self._call_all(client, close_run, self._run_id))

    async def _find_last_workers(self, client: Client) -> None:
        # If the connection is lost, or the scheduler does not reply, the workers known so far are used.
        with suppress(Exception):
            self._set_workers(await client.nthreads())

    def _call_all(self, client: Client, *call: Any) -> list[asyncio.Task[Any]]:
        """Call a function on all workers simultaneously; return the tasks of the calls."""
        return [self._create_task(_call(client, address, *call), f"call of {address}") for address in self._workers]

    def _create_task(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = named_task(self._loop, coroutine, f"{self._name} {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _poll_all(self, client: Client) -> None:
        while True:
            self._early.clear()
            await self._find_workers(client)
            for address, worker in self._workers.items():
                if not worker.is_polled:
                    worker.is_polled = True
                    self._create_task(self._poll(client, address, worker), f"poll of {address}")
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL + _INTERVAL_PER_WORKER * len(self._workers)):
                    await self._early.wait()

    async def _find_workers(self, client: Client) -> None:
        try:
            async with asyncio.timeout(_REPLY_TIMEOUT) as limit:
                self._set_workers(await client.nthreads())
        except Exception as error:
            # If the scheduler is only busy, the run continues, and the known workers are still polled.
            if not limit.expired():
                self._scheduler.on_disconnect(error)

    def _set_workers(self, threads: dict[str, int]) -> None:
        self._workers = {address: self._workers.get(address) or _WorkerState() for address in threads}
        self._scheduler.builder.threads = sum(threads.values()) or 1
        self._update_run()

    async def _poll(self, client: Client, address: str, worker: _WorkerState) -> None:
        phase = self._scheduler.phase
        reply = await _call(client, address, poll_run, self._run_id, int(phase))
        worker.is_polled = False
        # The loss of a worker is detected elsewhere.
        if isinstance(reply, Exception):
            return
        worker.acknowledged, worker.reply = phase, reply
        if reply is not None:
            for key, payloads in reply.chunks.items():
                self._scheduler.receive(key, address, payloads)
        self._update_run()
        if self._scheduler.phase is not phase:
            self.poll_now()

    def _update_run(self) -> None:
        """Update the counts of the run, and withdraw the chunks that no worker will begin."""
        tally, phase = self._scheduler.context.tally, self._scheduler.phase
        workers = self._workers.values()
        replies = [worker.reply for worker in workers]
        tally.running = min(sum(reply.running for reply in replies if reply), self._scheduler.unfinished)
        if self._limit is not None:
            limits = (self._limit if reply is None else reply.limit or 0 for reply in replies)
            tally.limit = sum(limits) or self._limit
        if phase is not Phase.RUNNING and all(worker.acknowledged is phase for worker in workers):
            self._scheduler.withdraw({key for reply in replies if reply for key in reply.chunks})
        self._scheduler.context.wake()


async def _call(client: Client, address: str, *call: Any) -> Any:
    """Call a function on a worker; return the reply, or the error if the call fails."""
    try:
        async with asyncio.timeout(_CALL_TIMEOUT):
            replies = await client.run(*call, workers=[address], on_error="return")
    except Exception as error:
        return error
    return replies.get(address)


async def _finish(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait for tasks for a limited time, and then cancel those that are not done."""
    await wait_shielded(tasks, _REPLY_TIMEOUT)
    await _cancel(tasks)


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait a limited time for them: a cancelled task still closes its connection to Dask."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await wait_shielded(tasks, _REPLY_TIMEOUT)
