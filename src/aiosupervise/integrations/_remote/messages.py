"""The messages between driver and workers; outcomes travel in them as payloads, which `serialization` makes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .serialization import OutcomePayload


class Phase(enum.IntEnum):
    """How far a run is.

    In a stopped run no further job starts; in a cancelled one the running jobs are cancelled as well.
    """

    RUNNING = 0
    STOPPED = 1
    CANCELLED = 2


@dataclass(frozen=True, slots=True)
class PollReply:
    """The reply of a worker to a poll.

    Attributes:
        running: how many jobs of the run are running on the worker.
        limit: how many may run there at a time; None for no limit.
        status: in words, why the worker starts no job at present; empty if nothing holds it up.
        chunks: the chunks that the worker holds, each with the payloads that no earlier reply had.

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
        stopped: why the worker run has stopped by itself; empty if it has not.
        expired: why the worker has cancelled its run; empty if it has not, or the driver asked for it.

    """

    worker: str
    payloads: list[OutcomePayload]
    stopped: str
    expired: str
