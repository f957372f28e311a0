"""What a run does when the service behind it is in trouble, as the user sets it."""

from __future__ import annotations

from typing import Literal, final

from aiosupervise._policy.budget import Budget
from aiosupervise._policy.checks import check_count, check_seconds
from aiosupervise._policy.record import record


@final
@record
class Overload:
    """What a run does when the service behind it is in trouble: pause, try one, and go on when that succeeds.

    All retries of a run's supervised calls are paid from one budget, which successes fill. When it is empty, the run
    pauses: nothing new starts, what runs finishes, and retries wait. Then one probe goes, a waiting retry or else a
    new job. If it succeeds, a quarter of the budget is put back and the run goes on; if not, the next pause is twice
    as long. It is a circuit breaker that waits: closed, open, half-open.

    Args:
        budget: the `Budget` that retries are paid from, to be shared among runs; None for a fresh one for each run.
        when_exhausted: "pause", or "fail": calls that cannot pay give up instead, and the run does not pause.
        first_pause: seconds, the longest that the first pause takes. Each takes from half of its length to all of
            it, at random, so that processes that failed together don't come back together.
        longest_pause: seconds; pauses double up to this.
        probes: so many failed ones in a row stop the run: what waits for its retry fails with its last error and
            `Reason.BUDGET`, and what never ran is `Pending`.

    Raises:
        TypeError, ValueError: for an argument that makes no sense.

    """

    budget: Budget | None = None
    when_exhausted: Literal["pause", "fail"] = "pause"
    first_pause: float = 0.5
    longest_pause: float = 20.0
    probes: int = 8

    def __post_init__(self) -> None:
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a Budget, or None for a fresh one; got {self.budget!r}")
        if self.when_exhausted not in ("pause", "fail"):
            raise ValueError(f'when_exhausted must be "pause" or "fail"; got {self.when_exhausted!r}')
        check_seconds("first_pause", self.first_pause, zero=False)
        check_seconds("longest_pause", self.longest_pause, zero=False)
        if self.longest_pause < self.first_pause:
            raise ValueError(
                f"longest_pause must be at least first_pause, {self.first_pause}; got {self.longest_pause}"
            )
        check_count("probes", self.probes, least=1, none=None)


@final
@record
class Adaptive:
    """A limit that finds itself: additive increase, multiplicative decrease, as TCP does it.

    It grows by one for each round of successes, as many as the limit, while at least half of the places are taken.
    It is halved when the service shows that it is overloaded: an attempt timed out, a TimeoutError was raised, or
    the server asked to wait. What started before the halving says nothing more, so that one burst halves it once.

    Args:
        start: the limit at first.
        maximum: it grows no further.
        minimum: it shrinks no further.

    Raises:
        TypeError, ValueError: unless 1 <= minimum <= start <= maximum.

    """

    start: int = 10
    maximum: int = 200
    minimum: int = 1

    def __post_init__(self) -> None:
        check_count("minimum", self.minimum, least=1, none=None)
        check_count("start", self.start, least=self.minimum, none=None)
        check_count("maximum", self.maximum, least=self.start, none=None)
