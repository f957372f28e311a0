"""The runs in which one worker takes part, with the functions that the driver's engine calls on the worker.

Invariants, each with a test:
- When the driver has closed a run, no coroutine of it is left on the worker.
- A chunk that arrives after its run was stopped or closed starts no job.
- If a run is closed because it was not polled, later replies still contain the chunks that had begun. Otherwise the
  driver might withdraw them before their results, which contain the reason, arrive.
- A worker keeps the ids of only the most recently closed runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiosupervise._batch.protocol import EngineConfig

from .messages import ChunkResult, Phase, PollReply
from .serialization import deserialize, pending_payload, remote_error, text_of
from .worker_run import WorkerRun

# The number of closed runs whose ids a worker keeps. Once this many runs have been closed after a given run, none of
# its chunks can still arrive.
_MAX_CLOSED = 1000


class WorkerRuns:
    """The worker runs of one worker, by the ids of their runs."""

    def __init__(self, worker: str) -> None:
        """Create an empty registry.

        Args:
            worker: the address of the worker.
        """
        self._worker = worker
        self._active: dict[str, WorkerRun] = {}
        # The closed runs by id, each with its reason, which is empty if the driver requested the closing.
        self._closed: dict[str, str] = {}
        # The chunks that had begun in runs that were closed for a reason.
        self._abandoned: dict[str, list[str]] = {}

    async def run_chunk(
        self, key: str, run_id: str, config: bytes, inputs: list[bytes], on_all_started: Callable[[], None]
    ) -> ChunkResult:
        """Run the jobs of a chunk; the first chunk of a run starts its worker run.

        Args:
            key: the name of the chunk.
            run_id: the name of the run.
            config: the serialized settings of the run.
            inputs: the serialized inputs.
            on_all_started: called when all jobs of the chunk have started and some are still running.
        """
        if run_id in self._closed:
            payloads = [pending_payload(position) for position in range(len(inputs))]
            return ChunkResult(self._worker, payloads, "", self._closed[run_id])
        run = self._active.get(run_id)
        if run is None:
            run = self._active[run_id] = WorkerRun(_settings(config), partial(self._forget, run_id))
        payloads = await run.run_chunk(key, inputs, on_all_started)
        return ChunkResult(self._worker, payloads, run.stopped, run.expired)

    def poll(self, run_id: str, phase: Phase) -> PollReply | None:
        """Move a run to this phase, and return its new outcomes and counts; None if this worker has no part in it."""
        run = self._active.get(run_id)
        if run is not None:
            return run.poll(phase)
        if phase is Phase.RUNNING:
            return None
        self._forget(run_id, "")
        chunks = self._abandoned.get(run_id)
        return PollReply(0, None, "", {key: [] for key in chunks}) if chunks else None

    async def close(self, run_id: str) -> None:
        """Cancel the running jobs of a run, wait until they have ended, and forget the run."""
        run = self._forget(run_id, "")
        self._abandoned.pop(run_id, None)
        if run is not None:
            await run.close()

    def _forget(self, run_id: str, reason: str) -> WorkerRun | None:
        self._closed.setdefault(run_id, reason)
        if len(self._closed) > _MAX_CLOSED:
            oldest = next(iter(self._closed))
            del self._closed[oldest]
            self._abandoned.pop(oldest, None)
        run = self._active.pop(run_id, None)
        if run is not None and reason:
            self._abandoned[run_id] = run.held_chunks()
        return run


def _settings(config: bytes) -> EngineConfig[Any, Any]:
    """Return the settings of a run; replace any error by a RemoteError, because Dask logs the repr of errors."""
    try:
        settings: EngineConfig[Any, Any] = deserialize(config)
    except Exception as error:
        raise remote_error(error, "the settings of the run cannot be unpickled on the worker") from None
    return settings


def check_config(config: bytes) -> str:
    """Return the reason why this worker cannot unpickle the settings of a run, or an empty string if it can."""
    try:
        deserialize(config)
    except Exception as error:
        return text_of(error)
    return ""
