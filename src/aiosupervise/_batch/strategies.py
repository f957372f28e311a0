"""The three strategies: each determines the order of the outcomes, and which outcome ends the run.

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
from typing import ClassVar, Generic, Literal, TypeAlias, TypeVar

from aiosupervise._events.outcomes import Failure, I, Outcome, Pending
from aiosupervise._policy.checks import safe_repr

T = TypeVar("T")
StrategyName: TypeAlias = Literal["gather", "as_completed", "wait"]
ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]


class Strategy(ABC, Generic[T, I]):
    """An order of outcomes; `ready` contains the outcomes that can be delivered, in this order.

    A strategy that delivers pending outcomes last withholds them only while `holds_pending` is True. In a run with
    groups, the attribute is False until the run is stopped, so that the pending outcomes of a stopped group are not
    withheld.
    """

    name: ClassVar[StrategyName]
    may_end_run = False
    """True if an outcome may end the run although jobs are unfinished."""

    def __init__(self) -> None:
        self.ready: deque[Outcome[T, I]] = deque()
        self.holds_pending = True
        self._held: dict[int, Outcome[T, I]] = {}

    @property
    def awaited(self) -> int | None:
        """The index of the outcome that must be delivered next; None if it may be any outcome."""
        return None

    @property
    def held_pending(self) -> int:
        """The number of pending outcomes that are withheld until the end."""
        return 0

    @abstractmethod
    def add(self, outcome: Outcome[T, I]) -> None:
        """Add an outcome at its position in the order."""
        ...

    def ends_run(self, outcome: Outcome[T, I]) -> bool:  # noqa: ARG002 - used by "wait"
        """Return whether an outcome ends the run although jobs are unfinished."""
        return False

    def held(self) -> list[Outcome[T, I]]:
        """Return the withheld outcomes, in input order."""
        return [self._held[index] for index in sorted(self._held)]

    def flush(self) -> None:
        """Make all withheld outcomes ready, because no more will follow."""
        self.ready.extend(self.held())
        self._held.clear()


class Gather(Strategy[T, I]):
    """Input order: an outcome is withheld until all outcomes before it have arrived."""

    name: ClassVar[StrategyName] = "gather"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    @property
    def awaited(self) -> int:
        """The index of the first outcome that has not arrived."""
        return self._next

    def add(self, outcome: Outcome[T, I]) -> None:
        """Make an outcome ready once all outcomes before it have arrived."""
        held, index = self._held, self._next
        if outcome.index != index:
            held[outcome.index] = outcome
            return
        self.ready.append(outcome)
        self._next = index + 1
        while held and self._next in held:
            self.ready.append(held.pop(self._next))
            self._next += 1


class AsCompleted(Strategy[T, I]):
    """Completion order; pending outcomes come last."""

    name: ClassVar[StrategyName] = "as_completed"

    @property
    def held_pending(self) -> int:
        """The number of withheld outcomes, all of which are pending."""
        return len(self._held)

    def add(self, outcome: Outcome[T, I]) -> None:
        """Make an outcome ready, or withhold it until the end if it is pending."""
        if isinstance(outcome, Pending) and self.holds_pending:
            self._held[outcome.index] = outcome
        else:
            self.ready.append(outcome)


class Wait(AsCompleted[T, I]):
    """Completion order; `return_when` determines when the run ends, as for asyncio.wait."""

    name: ClassVar[StrategyName] = "wait"

    def __init__(self, return_when: ReturnWhen) -> None:
        super().__init__()
        self._return_when = return_when
        self.may_end_run = return_when != ALL_COMPLETED

    def ends_run(self, outcome: Outcome[T, I]) -> bool:
        """Return whether an outcome ends the run; as in asyncio.wait, a cancellation does not count as an exception."""
        if self._return_when == FIRST_EXCEPTION:
            # `isinstance` would read the `__class__` of the error, which may be a property that raises.
            return isinstance(outcome, Failure) and not issubclass(type(outcome.error), CancelledError)
        return self._return_when == FIRST_COMPLETED and not isinstance(outcome, Pending)


def strategy_named(name: StrategyName, return_when: ReturnWhen) -> Strategy[T, I]:
    """Create the strategy with this name for one run.

    Raises:
        ValueError: for an unknown name, for a `return_when` that asyncio.wait does not know, and for a `return_when`
            other than "ALL_COMPLETED" with a strategy other than "wait".
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        words = "'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_EXCEPTION'"
        raise ValueError(f"return_when must be {words}; got {safe_repr(return_when)}")
    if name == "wait":
        return Wait[T, I](return_when)
    if name not in ("gather", "as_completed"):
        raise ValueError(f"strategy must be 'gather', 'as_completed' or 'wait'; got {safe_repr(name)}")
    if return_when != ALL_COMPLETED:
        raise ValueError(f"return_when={return_when!r} is for strategy='wait' only; got strategy={name!r}")
    return Gather[T, I]() if name == "gather" else AsCompleted[T, I]()
