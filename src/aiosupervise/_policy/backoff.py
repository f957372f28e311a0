"""The delay before a retry: `Backoff`, and the functions and lists of seconds that can replace it.

Pure: no clock, no asyncio.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias, final

from .checks import check_seconds, is_async_callable, name_of, safe_repr
from .errors import unwrap
from .record import record

BackoffLike: TypeAlias = Callable[[int, Exception], float] | Iterable[float]


@final
@record
class Backoff:
    """Exponential backoff with full jitter, as in AWS's retry specification.

    The delay before retry n (n from 0) is `uniform(0, min(cap, base * factor**n))` seconds; without jitter it is the
    upper bound itself. The cap is applied before the jitter. (Keep in sync with docs/reference/retrying.md.)

    Args:
        base: the upper bound before the first retry, in seconds; 0 for no delay at all.
        factor: the ratio of each upper bound to the previous one, at least 1.
        cap: the largest upper bound, in seconds.
        jitter: "full" draws the delay from the whole range, so that callers that failed at the same time do not retry
            at the same time. "none" always uses the upper bound, which suits tests and single callers.

    Raises:
        TypeError, ValueError: if an argument is not a number, or is negative, infinite or NaN, or if the jitter is
            unknown.
    """

    base: float = 0.05
    factor: float = 2.0
    cap: float = 20.0
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        check_seconds("base", self.base, zero=True)
        check_seconds("cap", self.cap, zero=True)
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)):
            raise TypeError(f"factor must be a number of at least 1; got {safe_repr(self.factor)}")
        # The condition is written so that NaN, and an int that is too large for a float, also fail the check.
        if not 1 <= self.factor <= sys.float_info.max:
            raise ValueError(f"factor must be a finite number of at least 1; got {safe_repr(self.factor)}")
        if self.jitter not in ("full", "none"):
            raise ValueError(f'jitter must be "full" or "none"; got {safe_repr(self.jitter)}')

    def __call__(self, n: int, error: Exception | None = None) -> float:  # noqa: ARG002
        """Return the seconds to wait before retry `n`, counted from 0; the error is ignored."""
        bound = min(self.cap, self.base * self._growth(n)) if self.base else 0.0
        return bound if self.jitter == "none" else random.random() * bound  # noqa: S311

    def _growth(self, n: int) -> float:
        try:
            return float(self.factor) ** n
        except OverflowError:
            # The power, or n itself, is too large for a float.
            return 1.0 if self.factor == 1 else math.inf


def check_backoff(backoff: object) -> None:
    """Raise unless `backoff` is a synchronous callable, or an iterable that can be iterated more than once."""
    rule = "backoff must be a Backoff(...), a function (n, error) -> seconds, or a list of seconds"
    if isinstance(backoff, type):
        raise TypeError(f"{rule}; got the class {backoff.__name__}: write {backoff.__name__}()")
    if callable(backoff):
        if is_async_callable(backoff):
            raise TypeError(
                f"{rule}; {name_of(backoff)} is async, and its return value is needed immediately: make it a plain def"
            )
    elif isinstance(backoff, Iterator):
        raise TypeError(f"{rule}; an iterator would be shared by all calls: give a list or a tuple")
    elif isinstance(backoff, (str, bytes)) or not isinstance(backoff, Iterable):
        raise TypeError(f"{rule}; got {safe_repr(backoff)}")
    else:
        _check_schedule(backoff)


def _check_schedule(schedule: Iterable[object]) -> None:
    """Check every delay of a list or tuple, but only the first one of any other iterable, which may be infinite."""
    delays = schedule if isinstance(schedule, (list, tuple)) else list(itertools.islice(schedule, 1))
    if not delays:
        raise ValueError("backoff must have at least one delay; got an empty iterable: write [0] for no wait")
    for n, seconds in enumerate(delays):
        check_seconds(f"backoff[{n}]", seconds, zero=True)


def delay_before(backoff: BackoffLike, n: int, error: Exception) -> float:
    """Return the seconds to wait before retry `n`, counted from 0; the last delay of an iterable repeats.

    Raises:
        TypeError, ValueError: if the user's backoff returns something other than a finite number of at least 0.

    """
    if isinstance(backoff, Backoff):
        return backoff(n)
    if isinstance(backoff, (list, tuple)):
        # Every delay was checked when the policy was created.
        delay: float = backoff[n] if n < len(backoff) else backoff[-1]
        return delay
    seconds = backoff(n, unwrap(error)) if callable(backoff) else _nth(backoff, n)
    check_seconds(f"the delay that backoff {name_of(backoff)} returns for retry {n}", seconds, zero=True)
    return seconds


def _nth(schedule: Iterable[float], n: int) -> float:
    last = 0.0
    for i, seconds in enumerate(schedule):
        last = seconds
        if i == n:
            break
    return last
