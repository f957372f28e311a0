"""The three strategies: each is an order, and an answer to "does this outcome end the run?".

| strategy       | its namesake          | outcomes come in                | the run ends when       |
|----------------|-----------------------|---------------------------------|-------------------------|
| "gather"       | asyncio.gather        | input order                     | all jobs have finished  |
| "as_completed" | asyncio.as_completed  | completion order, pending last  | all jobs have finished  |
| "wait"         | asyncio.wait          | completion order, pending last  | `return_when` says so   |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from collections import deque
from typing import Generic, Literal, TypeAlias, TypeVar

from aiosupervise._events.outcomes import Failure, I, Outcome, Pending

T = TypeVar("T")
StrategyName: TypeAlias = Literal["gather", "as_completed", "wait"]
ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]


class Strategy(ABC, Generic[T, I]):
    """Takes outcomes as they come; `ready` has those whose turn has come, in the strategy's order."""

    def __init__(self) -> None:
        self.ready: deque[Outcome[T, I]] = deque()
        self._held: dict[int, Outcome[T, I]] = {}

    @abstractmethod
    def add(self, outcome: Outcome[T, I]) -> None:
        """Take the outcome of one more job."""
        ...

    def ends_run(self, outcome: Outcome[T, I]) -> bool:  # noqa: ARG002 - it is for those that override
        """Tell whether the run ends with this outcome, whatever still runs."""
        return False

    def held(self) -> list[Outcome[T, I]]:
        """Return the outcomes whose turn has not come, in input order."""
        return [self._held[index] for index in sorted(self._held)]

    def flush(self) -> None:
        """Make everything ready: no further outcome will come."""
        self.ready.extend(self.held())
        self._held.clear()


class Gather(Strategy[T, I]):
    """Input order: an outcome's turn comes after all those before it."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def add(self, outcome: Outcome[T, I]) -> None:
        """Hold it back until all before it are there."""
        if outcome.index != self._next:
            self._held[outcome.index] = outcome
            return
        self.ready.append(outcome)
        self._next += 1
        while self._next in self._held:
            self.ready.append(self._held.pop(self._next))
            self._next += 1


class AsCompleted(Strategy[T, I]):
    """Completion order; what the end of the run came before is last."""

    def add(self, outcome: Outcome[T, I]) -> None:
        """Pass it on, or hold it back to the end if it is pending."""
        if isinstance(outcome, Pending):
            self._held[outcome.index] = outcome
        else:
            self.ready.append(outcome)


class Wait(AsCompleted[T, I]):
    """The same order; `return_when` ends the run as it ends asyncio.wait."""

    def __init__(self, return_when: ReturnWhen) -> None:
        super().__init__()
        self._return_when = return_when

    def ends_run(self, outcome: Outcome[T, I]) -> bool:
        """End as asyncio.wait does, for which a cancelled job has raised no exception."""
        if self._return_when == FIRST_EXCEPTION:
            return isinstance(outcome, Failure) and not isinstance(outcome.error, CancelledError)
        return self._return_when == FIRST_COMPLETED and not isinstance(outcome, Pending)


def strategy_named(name: StrategyName, return_when: ReturnWhen) -> Strategy[T, I]:
    """Make the strategy that a run of this name needs.

    Raises:
        ValueError: if there is none, or if `return_when` is no word of asyncio.wait or is given to another strategy.

    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        words = "'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_EXCEPTION'"
        raise ValueError(f"return_when must be {words}; got {return_when!r}")
    if name == "wait":
        return Wait[T, I](return_when)
    if name not in ("gather", "as_completed"):
        raise ValueError(f"strategy must be 'gather', 'as_completed' or 'wait'; got {name!r}")
    if return_when != ALL_COMPLETED:
        raise ValueError(f"return_when={return_when!r} is for strategy='wait' only; got strategy={name!r}")
    return Gather[T, I]() if name == "gather" else AsCompleted[T, I]()
