"""Where the jobs of a run are done: in this process, or by another engine that `map_all(engine=...)` was given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, Protocol, TypeVar

from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import I, Outcome, Pending, Tally
from aiosupervise._policy.record import record

from .overload import Adaptive, Overload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
I_co = TypeVar("I_co", covariant=True)


class EngineRun(Protocol[T_co, I_co]):
    """The jobs of a run that are under way."""

    def __len__(self) -> int:
        """Count them."""
        ...

    def __contains__(self, item: object) -> bool:
        """Tell whether this very coroutine is among them."""
        ...

    def free_slots(self, taken: int) -> int:
        """Count how many more may start now, when so many places are taken."""
        ...

    def names(self) -> list[str]:
        """Return their names."""
        ...

    def name_for(self, item: object, index: int) -> str:
        """Return the name that a job has."""
        ...

    def start(self, item: Any, index: int) -> None:
        """Start one."""
        ...

    def pending(self, item: Any, index: int, name: str, *, started: bool) -> Pending[T_co, I_co]:
        """Make the outcome of a job that the end of the run came before."""
        ...

    def trouble(self) -> str:
        """Tell in words why not everybody may go; nothing when all is well."""
        ...

    def stop(self) -> None:
        """Let what runs finish, and nothing else begin; called again, and also before `cancel`."""
        ...

    def cancel(self, *, reach: bool) -> None:
        """Cancel what runs, once; with `reach` False know that somebody has cancelled every task of the loop."""
        ...

    async def open(self) -> None:
        """Make ready for the first job."""
        ...

    async def close(self) -> None:
        """Let go of everything outside, when nothing runs any more."""
        ...

    def let_go(self) -> None:
        """Forget the run, which has ended."""
        ...


@record
class EngineContext(Generic[T, I]):
    """What another engine is to do, and whom it tells."""

    func: Callable[[I], Awaitable[T]]
    name: str
    limit: int | Adaptive | None
    overload: Overload | None
    tally: Tally
    scope: Scope
    record: Callable[[Outcome[T, I]], None]
    """Takes the outcome of a job, once for each."""
    wake: Callable[[], None]
    """To be called when there are more places than before."""
    stop: Callable[[], None]
    """To be called if nothing new shall be started."""
    fail: Callable[[Exception], None]
    """To be called if no further job can be done: the run stops, and raises this error."""


class Engine(Protocol):
    """What `map_all` takes as its `engine`, such as `aiosupervise.integrations.dask.DaskEngine`."""

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Refuse, before a run is made, a function or inputs that it cannot send; of a lazy source it gets none."""
        ...

    def jobs(self, order: EngineContext[T, I]) -> EngineRun[T, I]:
        """Begin a run, in the running loop."""
        ...
