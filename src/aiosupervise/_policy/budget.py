"""How many retries there may be: a token bucket. Pure: no clock, no asyncio."""

from __future__ import annotations

from typing import final

from .checks import check_count


@final
class Budget:
    """A retry budget: a bucket of tokens, which retries empty and successes fill. Share one among calls.

    A retry takes tokens, and a call that cannot pay gives up with `Reason.BUDGET`. A retry that succeeds puts its
    tokens back, and a call that succeeds at once puts in a few. So a service that fails now and then is retried as
    ever, and one that is down is soon left alone. The defaults are those of AWS's retry specification of 2026.

    Args:
        capacity: the tokens of a full bucket, as it is at first.
        cost: what a retry takes.
        cost_throttled: what a retry takes if the server has asked to wait, by a retry-after.
        refill: what a call that succeeds at once puts in.

    Attributes:
        tokens: how many there are now.

    Raises:
        TypeError, ValueError: for an argument that is no int of 0 or more.

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
        """Pay for a retry, and return what was paid; None, and nothing paid, if there are too few tokens."""
        price = self.cost_throttled if throttled else self.cost
        if price > self.tokens:
            return None
        self.tokens -= price
        return price

    def put(self, tokens: int) -> None:
        """Put tokens in, as many as there is room for."""
        self.tokens = min(self.capacity, self.tokens + tokens)

    def __repr__(self) -> str:
        return f"<Budget: {self.tokens} of {self.capacity} tokens>"
