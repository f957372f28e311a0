"""The functions that Dask calls on a worker: the task of a chunk, and the driver's calls through `Client.run`."""

from __future__ import annotations

import logging
import time
from functools import partial
from weakref import WeakKeyDictionary

from distributed import Worker, get_worker
from distributed.worker_state_machine import SecedeEvent

from aiosupervise.integrations._remote.messages import ChunkResult, Phase, PollReply
from aiosupervise.integrations._remote.serialization import deserialize
from aiosupervise.integrations._remote.worker_runs import WorkerRuns

# The runs of each worker; a cluster within one process has several workers.
_runs: WeakKeyDictionary[Worker, WorkerRuns] = WeakKeyDictionary()


async def run_chunk(key: str, run_id: str, config: bytes, inputs: bytes) -> ChunkResult:
    """Run the jobs of a chunk."""
    worker = get_worker()
    secede = partial(_secede, worker, key, time.time())
    return await _runs_of(worker).run_chunk(key, run_id, config, deserialize(inputs), secede)


# `Client.run` passes the worker to a parameter named `dask_worker`; `get_worker` does not work in such a call:
# https://github.com/dask/distributed/issues/7763


def poll_run(run_id: str, phase: int, dask_worker: Worker) -> PollReply | None:
    """Move a run to this phase, and return its new outcomes and counts; None if this worker has no part in the run."""
    return _runs_of(dask_worker).poll(run_id, Phase(phase))


async def close_run(run_id: str, dask_worker: Worker) -> None:
    """Cancel the running jobs of a run, wait until they have ended, and forget the run."""
    await _runs_of(dask_worker).close(run_id)


def _runs_of(worker: Worker) -> WorkerRuns:
    runs = _runs.get(worker)
    if runs is None:
        runs = _runs[worker] = WorkerRuns(worker.address)
        logging.getLogger("distributed.worker").addFilter(_is_not_a_poll)
    return runs


def _is_not_a_poll(record: logging.LogRecord) -> bool:
    """Return False for Dask's log line about running a poll function, which would appear ten times a second."""
    return not (isinstance(record.args, tuple) and record.args[:1] == (poll_run.__name__,))


def _secede(worker: Worker, key: str, started: float) -> None:
    """Release this task's slot on the worker, so that Dask can start another task while this task continues.

    `distributed.secede` removes the calling thread from the worker's pool, and then sends this event. Dask has no
    public function for coroutine tasks, which have no threads of their own.
    """
    now = time.time()
    worker.handle_stimulus(SecedeEvent(key=key, compute_duration=now - started, stimulus_id=f"secede-{now}"))
