"""The wait before each retry: the ladder, its cap, its jitter, and numbers at the limits of a float."""

import statistics
from collections import deque
from collections.abc import Callable, Iterator, MutableSequence

import pytest

from aiosupervise import Backoff, GiveUp, Policy, RetryAfter
from aiosupervise._policy.backoff import delay_before

from .deciding import decide

LADDER = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20]


def test_the_ladder() -> None:
    """Without jitter, the defaults climb from 0.05 s by doubling to 20 s, and stay there."""
    backoff = Backoff(jitter="none")
    assert [backoff(n) for n in range(11)] == pytest.approx(LADDER)


@pytest.mark.parametrize(
    ("backoff", "asked", "delays"),
    [
        (Backoff(jitter="none"), 0, [0.05, 0.1]),
        (Backoff(cap=0.2, jitter="none"), 0, [0.05, 0.1, 0.2, 0.2]),
        (Backoff(base=1, jitter="none"), 0, [1, 2, 4]),
        (Backoff(jitter="none"), 3, [3.05, 3.1, 3.2]),
    ],
    ids=["defaults", "cap of 0.2 s", "base of 1 s", "retry-after of 3 s"],
)
def test_vectors_of_the_aws_specification(backoff: Backoff, asked: float, delays: list[float]) -> None:
    """The delays of AWS's retry specification, its jitter fixed to 1."""
    policy = Policy(retry_on=lambda _: asked, backoff=backoff, max_retries=len(delays))
    assert [decide(policy, OSError(), n, 0) for n in range(1, len(delays) + 1)] == pytest.approx(delays)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.999])
def test_full_jitter_scales_the_capped_step(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap is applied before the jitter: the wait is drawn from the range up to the capped step."""
    monkeypatch.setattr("random.random", lambda: value)
    assert [Backoff()(n) for n in range(11)] == pytest.approx([value * step for step in LADDER])


def test_full_jitter_is_the_default_and_uniform() -> None:
    """The draws fill the whole range evenly."""
    draws = [Backoff(base=1)(0) for _ in range(5000)]
    assert 0 <= min(draws) < 0.05
    assert 0.95 < max(draws) <= 1
    assert statistics.mean(draws) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("n", [10_000, 10**400], ids=["power beyond a float", "n beyond a float"])
def test_far_up_the_ladder(n: int) -> None:
    """After more retries than a float can represent, the wait is still the cap."""
    assert Backoff(jitter="none")(n) == 20


@pytest.mark.parametrize("n", [0, 5, 10**400], ids=["0", "5", "beyond a float"])
def test_factor_of_one(n: int) -> None:
    """With a factor of 1, as an int or a float, every step is the base."""
    assert Backoff(0.3, 1, jitter="none")(n) == 0.3
    assert Backoff(0.3, 1.0, jitter="none")(n) == 0.3


@pytest.mark.parametrize("n", [0, 5, 10**400], ids=["0", "5", "beyond a float"])
def test_base_or_cap_of_zero(n: int) -> None:
    """A base of 0, or a cap of 0, means no wait at all."""
    assert Backoff(0)(n) == 0
    assert Backoff(cap=0)(n) == 0


def test_a_backoff_is_a_value() -> None:
    """It is equal to one with the same numbers, can be a key of a dict, and cannot be changed."""
    assert Backoff() == Backoff(0.05, 2.0, 20.0, "full")
    assert len({Backoff(), Backoff(), Backoff(1)}) == 2
    with pytest.raises(AttributeError):
        Backoff().base = 1  # type: ignore[misc]  # the case in question


def test_a_backoff_ignores_the_error() -> None:
    """A Backoff accepts the error as its second argument, as any backoff does."""
    assert Backoff(1, jitter="none")(0, OSError()) == 1


class Fibonacci:
    """An endless iterable that can be iterated anew."""

    def __iter__(self) -> Iterator[float]:
        a, b = 1.0, 1.0
        while True:
            yield a
            a, b = b, a + b


@pytest.mark.parametrize(
    ("schedule", "delays"),
    [([1, 2], [1, 2, 2, 2]), ((3,), [3, 3, 3, 3]), (range(1, 4), [1, 2, 3, 3]), (Fibonacci(), [1, 1, 2, 3])],
    ids=["list", "tuple", "range", "endless"],
)
def test_iterables(schedule: list[float], delays: list[float]) -> None:
    """An iterable gives its nth delay, the last one repeats, and an endless one is read as far as needed."""
    policy = Policy(retry_on=OSError, backoff=schedule, max_retries=None)
    assert [decide(policy, OSError(), n, 0) for n in (1, 2, 3, 4)] == delays


def test_only_the_first_delay_of_a_generated_schedule_is_checked_at_once() -> None:
    """An iterable other than a list may be endless: each delay after the first is checked before its retry."""

    class Odd:
        def __iter__(self) -> Iterator[float]:
            yield 1
            yield -1

    policy = Policy(retry_on=OSError, backoff=Odd())
    assert decide(policy, OSError(), 1, 0) == 1
    with pytest.raises(ValueError, match="retry 1 must be a finite number of seconds, 0 or more; got -1"):
        decide(policy, OSError(), 2, 0)


def test_a_schedule_that_was_emptied_later() -> None:
    """An iterable that had a delay when the policy was made, and is empty now, means no wait."""
    schedule = {1.0}
    policy = Policy(retry_on=OSError, backoff=schedule)
    schedule.clear()
    assert decide(policy, OSError(), 1, 0) == 0


@pytest.mark.parametrize("kind", [list, deque])
def test_a_policy_keeps_a_copy_of_the_callers_delays(kind: Callable[[list[float]], MutableSequence[float]]) -> None:
    """A list that the caller changes later, or empties, leaves the policy as it was."""
    schedule = kind([1.0, 2.0])
    policy = Policy(retry_on=OSError, backoff=schedule)
    schedule[0] = -7.0
    assert decide(policy, OSError(), 1, 0) == 1.0
    schedule.clear()
    assert decide(policy, OSError(), 2, 0) == 2.0


def test_a_backoff_function_gets_the_unwrapped_error() -> None:
    """A function as backoff gets the error that a RetryAfter stands for."""
    seen: list[Exception] = []
    overruling, cause = RetryAfter(0), OSError()
    overruling.__cause__ = cause

    def backoff(_: int, error: Exception) -> float:
        seen.append(error)
        return 1

    assert delay_before(backoff, 0, overruling) == 1
    assert delay_before(backoff, 0, GiveUp()) == 1
    assert seen[0] is cause
    assert isinstance(seen[1], GiveUp)
