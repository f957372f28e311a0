"""The configuration of a run, derived from the arguments of `run_all` and `map_all`."""

from __future__ import annotations

from contextlib import suppress
from typing import Generic, TypeVar

from aiosupervise._events.listeners import Listener
from aiosupervise._events.outcomes import I
from aiosupervise._policy.record import record

from ._groups.settings import GroupSettings
from ._journal.journal import Journal
from .jobs import Jobs
from .protocol import Engine, EngineConfig
from .source import Source
from .strategies import Strategy

T = TypeVar("T")


@record
class RunConfig(Generic[T, I]):
    """The configuration of a run; `for_engine` is the part that its engine needs."""

    source: Source[object]
    jobs: Jobs[T, I]
    strategy: Strategy[T, I]
    timeout: float | None
    max_failures: int | None
    listen: Listener | None
    engine: Engine
    for_engine: EngineConfig[T, I]
    journal: Journal | None
    groups: GroupSettings | None = None

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.for_engine.name

    def ordered(self, strategy: Strategy[T, I]) -> RunConfig[T, I]:
        """Return the same configuration with another strategy."""
        # `dataclasses.replace` would take a millisecond, see `record`.
        settings = self.timeout, self.max_failures, self.listen, self.engine, self.for_engine, self.journal, self.groups
        return RunConfig(self.source, self.jobs, strategy, *settings)

    def discard(self) -> None:
        """Close the coroutines of a run that will not start."""
        for item in self.source.rest():
            # Closing a coroutine that has begun may raise an error. The error that prevents the run takes precedence.
            with suppress(Exception):
                self.jobs.discard(item)
