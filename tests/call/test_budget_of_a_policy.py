"""A call whose retries are paid from a budget: the vectors of the AWS retry specification, and further cases."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import pytest

from aiosupervise import AttemptTimeout, Backoff, Budget, GiveUp, Policy, Reason, RetryAfter, listen, run_all

from .endings import error_of, verdict_of
from .forms import Supervise, now, only_async

pytestmark = pytest.mark.looptime


class AnswerError(ConnectionError):
    """A response of a server with a status other than 200."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


class Server:
    """Returns its responses one after another, and records the time of each request and the tokens left then."""

    def __init__(self, answers: list[int], budget: Budget | None = None, retry_after: float | None = None) -> None:
        self.requested: list[float] = []
        self.tokens: list[int] = []
        self._answers = answers
        self._budget = budget
        self._retry_after = retry_after

    async def __call__(self) -> int:
        self.requested.append(now())
        self.tokens.append(-1 if self._budget is None else self._budget.tokens)
        status = self._answers.pop(0)
        if status != 200:
            raise AnswerError(status, self._retry_after if status == 429 else None)
        return status

    def delays(self) -> list[float]:
        """The delays between the requests."""
        return [round(later - sooner, 9) for sooner, later in zip(self.requested, self.requested[1:], strict=False)]


def policy(budget: Budget, attempts: int, **options: Any) -> Policy:
    """The policy of a vector: a number of attempts, no jitter."""
    options = {"backoff": Backoff(jitter="none"), **options}
    return Policy(retry_on=ConnectionError, max_retries=attempts - 1, budget=budget, **options)


def budget_of(tokens: int) -> Budget:
    """A default budget with this number of tokens left."""
    budget = Budget()
    budget.tokens = tokens
    return budget


@pytest.mark.parametrize("make", [lambda n: Budget(capacity=n), budget_of], ids=["capacity", "tokens"])
@pytest.mark.parametrize(
    ("tokens", "attempts", "answers", "after", "delays"),
    [
        (500, 3, [500, 500, 200], 486, [0.05, 0.1]),
        (500, 3, [200], 500, []),
        (30, 5, [500, 502, 200], 16, [0.05, 0.1]),
    ],
)
async def test_vectors_that_succeed(
    supervise: Supervise,
    make: Callable[[int], Budget],
    tokens: int,
    attempts: int,
    answers: list[int],
    after: int,
    delays: list[float],
) -> None:
    """A retry that succeeds refunds the last cost; the tokens, the attempts and the delays are those of the vector."""
    budget = make(tokens)
    server = Server(list(answers))
    assert await supervise(policy(budget, attempts))(server)() == 200
    assert len(server.requested) == len(answers)
    assert budget.tokens == after
    assert server.delays() == delays


@pytest.mark.parametrize("make", [lambda n: Budget(capacity=n), budget_of], ids=["capacity", "tokens"])
@pytest.mark.parametrize(
    ("tokens", "attempts", "answers", "reason", "after", "delays"),
    [
        (500, 3, [502, 502, 502], Reason.EXHAUSTED, 472, [0.05, 0.1]),
        (14, 5, [500, 502], Reason.BUDGET, 0, [0.05]),
        (0, 3, [500], Reason.BUDGET, 0, []),
        (20, 5, [500, 502], Reason.BUDGET, 6, [0.05]),
        (13, 3, [500], Reason.BUDGET, 13, []),
        (500, 3, [501, 502, 503], Reason.EXHAUSTED, 472, [0.05, 0.1]),
    ],
)
async def test_vectors_that_fail(
    supervise: Supervise,
    make: Callable[[int], Budget],
    tokens: int,
    attempts: int,
    answers: list[int],
    reason: Reason,
    after: int,
    delays: list[float],
) -> None:
    """The caller gets the last error with the reason in its verdict; tokens and delays are those of the vector."""
    budget = make(tokens)
    server = Server(list(answers))
    error = await error_of(supervise(policy(budget, attempts))(server)())
    assert isinstance(error, AnswerError)
    assert error.status == answers[-1]
    assert (verdict_of(error).reason, verdict_of(error).attempts) == (reason, len(answers))
    assert reason.value in error.__notes__[0]
    assert budget.tokens == after
    assert server.delays() == delays


async def test_vector_with_a_cap(supervise: Supervise) -> None:
    """The cap limits the delays to 0.05, 0.1, 0.2 and 0.2 s, and 444 tokens are left."""
    budget = Budget()
    server = Server([500] * 5)
    error = await error_of(supervise(policy(budget, 5, backoff=Backoff(cap=0.2, jitter="none")))(server)())
    assert verdict_of(error).reason is Reason.EXHAUSTED
    assert server.delays() == [0.05, 0.1, 0.2, 0.2]
    assert budget.tokens == 444


async def test_vector_of_a_throttled_call(supervise: Supervise) -> None:
    """A retry of an error with a retry-after costs 5 and waits for the base of 1 s; its success refunds the 5."""
    budget = Budget()
    server = Server([429, 200], budget, retry_after=0)
    assert await supervise(policy(budget, 3, backoff=Backoff(base=1, jitter="none")))(server)() == 200
    assert server.delays() == [1.0]
    assert server.tokens == [500, 495]
    assert budget.tokens == 500


async def test_vector_of_two_calls_in_sequence(supervise: Supervise) -> None:
    """Calls that share a budget share its tokens: 30, 16, and 16 again."""
    budget = Budget(capacity=30)
    call = supervise(policy(budget, 5))
    assert await call(Server([500, 502, 200]))() == 200
    assert budget.tokens == 16
    assert await call(Server([500, 200]))() == 200
    assert budget.tokens == 16


@only_async
async def test_vector_of_two_calls_at_once(supervise: Supervise) -> None:
    """Two functions under two policies that share a budget: 486 are left, and each has its own attempts and delays."""
    budget = Budget()
    one, other = Server([500, 500, 200], budget), Server([500, 200], budget)
    results = await asyncio.gather(supervise(policy(budget, 5))(one)(), supervise(policy(budget, 5))(other)())
    assert list(results) == [200, 200]
    assert budget.tokens == 486
    assert one.delays() == [0.05, 0.1]
    assert other.delays() == [0.05]
    assert one.tokens == [500, 472, 472]


@only_async
async def test_only_the_budget_is_shared(supervise: Supervise) -> None:
    """Concurrent calls of one function under a nearly empty budget: one can pay, and the others give up."""
    budget = budget_of(14)
    calls = [supervise(policy(budget, 3))(Server([500, 200]))() for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[0] == 200
    assert [verdict_of(error).reason for error in results[1:] if isinstance(error, Exception)] == [Reason.BUDGET] * 2
    assert budget.tokens == 14


async def test_separate_budgets_are_independent(supervise: Supervise) -> None:
    """A policy with a budget of its own is not affected when another budget is empty."""
    one, other = budget_of(0), Budget()
    await error_of(supervise(policy(one, 3))(Server([500, 200]))())
    assert await supervise(policy(other, 3))(Server([500, 200]))() == 200
    assert (one.tokens, other.tokens) == (0, 500)


@pytest.mark.parametrize(
    ("tokens", "after"), [(480, 481), (499, 500), (500, 500)], ids=["some room", "room for one", "full"]
)
@pytest.mark.parametrize("around", [nullcontext, partial(listen, lambda _: None)], ids=["alone", "listened to"])
async def test_a_call_that_succeeds_at_once_adds_one_token(
    supervise: Supervise, tokens: int, after: int, around: Callable[[], AbstractContextManager[None]]
) -> None:
    """It adds one token, but never exceeds the capacity."""
    budget = budget_of(tokens)
    with around():
        await supervise(policy(budget, 3))(Server([200]))()
    assert budget.tokens == after


async def test_a_call_that_succeeds_after_a_retry_refunds_only_its_last_cost(supervise: Supervise) -> None:
    """A throttled retry after a plain one refunds 5, not 14 or 19, and the success adds no further token."""
    budget = Budget()
    await supervise(policy(budget, 5))(Server([500, 429, 200], retry_after=0))()
    assert budget.tokens == 500 - 14


@pytest.mark.parametrize("answer", [LookupError("unlisted"), GiveUp(), PermissionError()], ids=repr)
async def test_an_error_that_is_not_transient_changes_no_tokens(answer: Exception, supervise: Supervise) -> None:
    """An unlisted error, a GiveUp and an irrecoverable error neither cost nor refund tokens."""
    budget = budget_of(100)

    @supervise(policy(budget, 3, irrecoverable=PermissionError))
    async def func() -> None:
        raise answer

    await error_of(func())
    assert budget.tokens == 100


@pytest.mark.parametrize("raised", [RetryAfter(0), AttemptTimeout(1)], ids=repr)
async def test_the_cost_of_a_retry_depends_on_its_error(raised: Exception, supervise: Supervise) -> None:
    """A RetryAfter causes a throttled retry, an AttemptTimeout a plain one."""
    budget = Budget()
    seen: list[int] = []

    @supervise(policy(budget, 2))
    async def func() -> None:
        seen.append(budget.tokens)
        if len(seen) == 1:
            raise raised

    await func()
    assert seen == [500, 495 if isinstance(raised, RetryAfter) else 486]
    assert budget.tokens == 500


async def test_other_limits_do_not_change_the_cost(supervise: Supervise) -> None:
    """With a timeout, a deadline and a gate, a retry costs the same."""
    budget = Budget()
    limits = {"attempt_timeout": 5, "deadline": 50, "gate": asyncio.Semaphore(1)}
    assert await supervise(policy(budget, 3, **limits))(Server([500, 500, 200]))() == 200
    assert budget.tokens == 486


@pytest.mark.parametrize("overload", [None, "default"])
async def test_a_failure_of_a_batch_has_the_reason_budget(overload: str | None, supervise: Supervise) -> None:
    """`Failure.reason` is the reason of the verdict."""
    call: Callable[[], Coroutine[object, None, int]] = supervise(policy(budget_of(0), 3))(Server([500]))
    report = await (run_all([call]) if overload else run_all([call], overload=None))
    assert [failure.reason for failure in report.failed] == [Reason.BUDGET]
