"""The settings of a run's overload protection and of an adaptive limit."""

from __future__ import annotations

from typing import Literal, final

from aiosupervise._policy.budget import Budget
from aiosupervise._policy.checks import check_count, check_seconds, safe_repr
from aiosupervise._policy.record import record


@final
@record
class Overload:
    """How a run behaves when the service behind it is overloaded or down: it pauses, probes, and resumes.

    It is a circuit breaker that waits: closed, open, half-open. All retries of a run's supervised calls are paid from
    one budget, which successes fill. When the budget is empty, and at least half of the 50 jobs whose first attempt
    ended most recently failed it, the circuit opens and the run pauses: no job is started, running attempts finish, and
    retries wait. After the pause one probe is sent: a new job, or a waiting call if there is none. If it succeeds, a
    quarter of the budget is refilled and the run resumes; if not, the next pause is twice as long. While most first
    attempts succeed, an empty budget has no effect: some inputs fail, not the service.

    Args:
        budget: the `Budget` that retries are paid from, which several runs may share; None for one of the run's own.
        when_exhausted: "pause", or "fail": calls give up instead of retrying, and the run does not pause.
        first_pause: seconds, the upper end of the first pause. The length of a pause is drawn between half of its
            upper end and all of it, so that processes that failed together do not come back together.
        longest_pause: seconds, the upper end that pauses double up to. A probe that takes longer counts as failed; it
            goes on, and if it succeeds after all, the run resumes.
        probes: the run stops when this number of probes has failed in a row. Calls that wait to retry fail with their
            last error and `Reason.BUDGET`, and jobs that were not started are `Pending`. Up to this number of new jobs
            may exist beyond the limit while probes are sent.

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
            raise TypeError(f"budget must be a Budget, or None for a fresh one; got {safe_repr(self.budget)}")
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

    It grows by one for each round of successes (as many as the limit) while at least half of the slots are in use. It
    is halved when the service shows that it is overloaded: an attempt timed out, a TimeoutError was raised, or the
    server asked to wait. Attempts that began before the limit was halved do not halve it again, so that one burst of
    errors counts once.

    Args:
        start: the limit at first.
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
