"""What a run is to do, as `run_all` and `map_all` have read it from their arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from aiosupervise._events.listeners import Listener
from aiosupervise._events.outcomes import I
from aiosupervise._policy.record import record

from .jobs import discard
from .overload import Adaptive, Overload
from .protocol import Engine
from .source import Source
from .strategies import Strategy

T = TypeVar("T")


@record
class RunConfig(Generic[T, I]):
    """What a run is to do."""

    source: Source[object]
    func: Callable[[I], Awaitable[T]] | None
    strategy: Strategy[T, I]
    limit: int | Adaptive | None
    timeout: float | None
    overload: Overload | None
    listen: Listener | None
    name: str | None
    engine: Engine | None = None  # None: in this process

    def discard(self) -> None:
        """Close the coroutines of a run that will not take place."""
        for item in self.source.rest():
            if self.func is None:
                discard(item)
