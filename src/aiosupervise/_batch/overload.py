"""The settings of a run's overload protection and of an adaptive limit."""

from __future__ import annotations

from typing import Literal, final

from aiosupervise._policy.budget import Budget
from aiosupervise._policy.checks import check_count, check_seconds, safe_repr
from aiosupervise._policy.record import record


@final
@record
class Overload:
    """How a run reacts when the service behind it is overloaded or down: it pauses, probes, and resumes.

    This is a circuit breaker (closed, open, half-open) that makes a run wait instead of fail. All retries of a run's
    supervised calls take tokens from one budget, which is refilled by successes. The circuit opens when the budget is
    empty and at least half of the last 50 jobs failed their first attempt. The run then pauses: no job starts, running
    attempts finish, and retries wait. After the pause one probe is sent: a new job, or a waiting call if there is none.
    If the probe succeeds, a quarter of the budget is refilled and the run resumes; otherwise the next pause is twice as
    long. While most first attempts succeed, an empty budget has no effect, because only some inputs fail, not the
    service.

    Args:
        budget: the retry `Budget`, which several runs may share; None for a new budget of the run.
        when_exhausted: "pause", or "fail" to make calls give up instead of pausing the run.
        first_pause: the upper bound of the first pause, in seconds. The length of each pause is a random value between
            half of its upper bound and the bound itself, so that several processes do not all resume simultaneously.
        longest_pause: the maximum of the upper bound, in seconds. A probe that takes longer than this counts as failed;
            it continues, and if it succeeds after all, the run resumes.
        probes: the number of consecutive failed probes that stop the run. Calls that wait to retry then fail with their
            last error and `Reason.BUDGET`, and jobs that were not started are `Pending`. While probes are sent, up to
            this number of new jobs may exist beyond the limit.

    Raises:
        TypeError, ValueError: for an invalid argument.
    """

    budget: Budget | None = None
    when_exhausted: Literal["pause", "fail"] = "pause"
    first_pause: float = 0.5
    longest_pause: float = 20.0
    probes: int = 8

    def __post_init__(self) -> None:
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a Budget, or None for a new one; got {safe_repr(self.budget)}")
        if self.when_exhausted not in ("pause", "fail"):
            raise ValueError(f'when_exhausted must be "pause" or "fail"; got {safe_repr(self.when_exhausted)}')
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
    """A concurrency limit that adapts to the service: additive increase, multiplicative decrease, as in TCP.

    The limit grows by one per round of successes (as many as the current limit) while at least half of the slots are in
    use. It is halved at a sign of overload: an attempt timed out, a TimeoutError was raised, or the server asked for a
    wait. Attempts that began before the limit was halved cannot halve it again, so a burst of errors counts only once.

    Args:
        start: the initial limit.
        maximum: the highest limit.
        minimum: the lowest limit.

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
