"""The token bucket on its own: payments, refunds and refusals."""

import copy
import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aiosupervise import Budget, Policy


def test_the_defaults_are_those_of_the_aws_specification() -> None:
    """500 tokens, 14 for a retry, 5 for a throttled one, 1 back for a clean success; full at first."""
    budget = Budget()
    assert (budget.capacity, budget.cost, budget.cost_throttled, budget.refill) == (500, 14, 5, 1)
    assert budget.tokens == 500


@pytest.mark.parametrize(("throttled", "price"), [(False, 14), (True, 5)])
def test_a_retry_takes_its_price(price: int, *, throttled: bool) -> None:
    """The price depends on whether the server asked to wait; `take` returns it, and takes exactly that."""
    budget = Budget()
    assert budget.take(throttled=throttled) == price
    assert budget.tokens == 500 - price


@pytest.mark.parametrize(("throttled", "price"), [(False, 14), (True, 5)])
def test_the_last_token_can_be_spent_and_no_more(price: int, *, throttled: bool) -> None:
    """Exactly the price is enough; one less is not, and then nothing is taken."""
    budget = Budget()
    budget.tokens = price
    assert budget.take(throttled=throttled) == price
    assert budget.tokens == 0
    budget.tokens = price - 1
    assert budget.take(throttled=throttled) is None
    assert budget.tokens == price - 1


@pytest.mark.parametrize(("tokens", "put", "after"), [(0, 14, 14), (499, 1, 500), (499, 2, 500), (500, 125, 500)])
def test_it_never_holds_more_than_its_capacity(tokens: int, put: int, after: int) -> None:
    """Tokens above the capacity are lost."""
    budget = Budget()
    budget.tokens = tokens
    budget.put(put)
    assert budget.tokens == after


def test_a_price_of_nothing_is_always_paid() -> None:
    """A cost of 0 is a price, not a refusal, also when the bucket is empty."""
    budget = Budget(capacity=0, cost=0)
    assert budget.take(throttled=False) == 0
    assert budget.take(throttled=True) is None


def test_the_repr_shows_tokens_and_capacity() -> None:
    """The number of tokens left is shown beside the capacity."""
    budget = Budget(capacity=30)
    budget.take(throttled=False)
    assert "16 of 30" in repr(budget)


NAMES = ["capacity", "cost", "cost_throttled", "refill"]
REFUSED: list[tuple[object, type[Exception]]] = [
    (-1, ValueError),
    (1.5, TypeError),
    (math.nan, TypeError),
    (math.inf, TypeError),
    (None, TypeError),
    (True, TypeError),
    (False, TypeError),
    ("5", TypeError),
    (int, TypeError),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("value", "kind"), REFUSED, ids=[str(value) for value, _ in REFUSED])
def test_a_bad_number_is_refused(name: str, value: object, kind: type[Exception]) -> None:
    """The error names the argument, the rule and what was given."""
    make: Callable[..., Budget] = Budget
    with pytest.raises(kind) as caught:
        make(**{name: value})
    assert str(caught.value) == f"{name} must be an integer of at least 0; got {value!r}"


@pytest.mark.parametrize("value", [Budget, 500, True, "Budget", {"capacity": 500}], ids=repr)
def test_a_policy_takes_only_a_budget(value: object) -> None:
    """A policy's budget is a Budget or None; the error for the class itself shows the repair."""
    make: Callable[..., Policy] = Policy
    with pytest.raises(TypeError) as caught:
        make(retry_on=OSError, budget=value)
    shown = "a value of type dict" if isinstance(value, dict) else repr(value)
    expected = ["budget", "must be a Budget", shown, *(["write Budget()"] if value is Budget else [])]
    for word in expected:
        assert word in str(caught.value)


def test_a_changed_policy_shares_the_budget() -> None:
    """`replace` keeps the very same bucket, so that its tokens are shared."""
    budget = Budget()
    policy = Policy(retry_on=OSError, budget=budget)
    assert policy.replace(max_retries=1).budget is budget
    assert policy.replace(budget=None).budget is None


@pytest.mark.parametrize(
    ("value", "ending"),
    [("500", r"got '500'$"), (Budget, r"got <class '.*Budget'>: write Budget\(\)$"), (500, "got 500$")],
)
def test_a_policy_takes_a_budget_or_none(value: Any, ending: str) -> None:
    """Anything else is refused at once, and the error for the class itself shows the repair."""
    with pytest.raises(TypeError, match=r"^budget must be a Budget, or None for no budget; " + ending):
        Policy(retry_on=OSError, budget=value)


def test_threads_that_share_one_lose_no_update() -> None:
    """The tokens change by the sum of all refunds and payments, wherever a thread is interrupted."""
    budget = Budget(capacity=10**9, cost=3)
    budget.tokens = 10**6
    taken: list[int | None] = []

    def work() -> None:
        for _ in range(2000):
            budget.put(5)
            taken.append(budget.take(throttled=False))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert taken == [3] * 16_000
    assert budget.tokens == 10**6 + 16_000 * (5 - 3)


def test_it_can_be_copied() -> None:
    """With the tokens that are in it."""
    budget = Budget(capacity=30)
    budget.take(throttled=False)
    for other in (copy.copy(budget), copy.deepcopy(budget)):
        assert repr(other) == repr(budget)
