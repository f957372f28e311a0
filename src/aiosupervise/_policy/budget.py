"""The retry budget, a token bucket that limits the ratio of retries to calls. Pure: no clock, no asyncio."""

from __future__ import annotations

import threading
from typing import final

from .checks import check_count

# All budgets share one lock, so that a budget can be copied and pickled. The lock is reentrant, because a finalizer may
# run while the lock is held, and may call a supervised function.
_lock = threading.RLock()


@final
class Budget:
    """A retry budget: a token bucket that retries draw from and successes refill. Many calls can share one.

    Each retry takes tokens, and a call gives up with `Reason.BUDGET` if too few are left. A retry that succeeds returns
    its tokens, and a call that succeeds on the first attempt adds a few. Occasional failures are therefore retried as
    usual, while a service that is down soon receives no more retries. The defaults are those of AWS's retry
    specification of 2026. Calls in several threads may share a budget.

    Args:
        capacity: the number of tokens in a full bucket; a new budget is full.
        cost: the number of tokens that a retry takes.
        cost_throttled: the number of tokens that a retry takes if the server asked for a wait (Retry-After).
        refill: the number of tokens that a call adds if it succeeds on the first attempt.

    Attributes:
        tokens: the current number of tokens.

    Raises:
        TypeError, ValueError: if an argument is not an integer of at least 0.
    """

    __slots__ = ("capacity", "cost", "cost_throttled", "refill", "tokens")

    def __init__(self, capacity: int = 500, cost: int = 14, cost_throttled: int = 5, refill: int = 1) -> None:
        check_count("capacity", capacity, least=0, none=None)
        check_count("cost", cost, least=0, none=None)
        check_count("cost_throttled", cost_throttled, least=0, none=None)
        check_count("refill", refill, least=0, none=None)
        self.capacity: int = capacity
        self.cost: int = cost
        self.cost_throttled: int = cost_throttled
        self.refill: int = refill
        self.tokens: int = capacity

    def take(self, *, throttled: bool) -> int | None:
        """Take the tokens for a retry and return their number, or None if there are too few."""
        cost = self.cost_throttled if throttled else self.cost
        with _lock:
            if cost > self.tokens:
                return None
            self.tokens -= cost
        return cost

    def put(self, tokens: int) -> None:
        """Add tokens, up to the capacity."""
        # The bucket is usually full, and then no lock is needed.
        if self.tokens < self.capacity:
            with _lock:
                self.tokens = min(self.capacity, self.tokens + tokens)

    def __repr__(self) -> str:
        return f"<Budget: {self.tokens} of {self.capacity} tokens>"
