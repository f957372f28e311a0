"""What driver and workers tell each other about a run; outcomes travel as the records of `travel`."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .serialization import Record


class Phase(enum.IntEnum):
    """How far a run is: each includes those before."""

    RUNNING = 0
    STOPPED = 1  # nothing new starts
    CANCELLED = 2  # and what runs is cancelled


@dataclass(frozen=True, slots=True)
class News:
    """What a worker tells when it is visited."""

    running: int
    limit: int | None
    trouble: str
    chunks: dict[str, list[Record]]  # of each chunk that it has, the records that are new


@dataclass(frozen=True, slots=True)
class Done:
    """What a chunk returns."""

    worker: str
    records: list[Record]
    stopped: str  # why the worker's part of the run has given up; nothing if it has not
    lost: str  # why the worker has cancelled it; nothing if it was the driver, or nobody
