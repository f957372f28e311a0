"""The messages between driver and workers; they contain outcomes as payloads, which `serialization` creates."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .serialization import OutcomePayload


class Phase(enum.IntEnum):
    """The phase of a run.

    In a stopped run, no further jobs start; in a cancelled run, the running jobs are cancelled as well.
    """

    RUNNING = 0
    STOPPED = 1
    CANCELLED = 2


@dataclass(frozen=True, slots=True)
class PollReply:
    """The reply of a worker to a poll.

    Attributes:
        running: the number of jobs of the run that are running on the worker.
        limit: the number of jobs that may run concurrently on the worker; None for no limit.
        status: the reason why the worker starts no jobs at the moment; empty if there is none.
        chunks: the chunks that the worker holds, each with the payloads that no earlier reply contained.
    """

    running: int
    limit: int | None
    status: str
    chunks: dict[str, list[OutcomePayload]]


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of a chunk.

    Attributes:
        worker: the address of the worker.
        payloads: the outcome of each job.
        stopped: why the worker run stopped of its own accord; empty if it has not.
        expired: why the worker cancelled its run; empty if it has not, or if the driver requested the cancellation.
    """

    worker: str
    payloads: list[OutcomePayload]
    stopped: str
    expired: str
