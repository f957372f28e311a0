"""How long to wait before a retry. Pure: no clock, no asyncio."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeAlias, final

from .checks import check_seconds, is_async_callable, name_of, shown
from .errors import unwrap
from .record import record

BackoffLike: TypeAlias = Callable[[int, Exception], float] | Iterable[float]


@final
@record
class Backoff:
    """Exponential backoff with full jitter, as AWS's retry specification has it.

    The delay before retry n (n from 0) is `uniform(0, min(cap, base * factor**n))` seconds; without jitter it is
    the upper end itself. The cap comes before the jitter. (Keep in sync with docs/reference/retrying.md.)

    Args:
        base: seconds, the upper end before the first retry; 0 for no wait at all.
        factor: how much longer each upper end is than the one before, at least 1.
        cap: seconds, the longest upper end.
        jitter: "full" draws from the whole range, so that callers that failed together don't come back together;
            "none" waits the upper end, for tests and for a lone caller.

    Raises:
        TypeError, ValueError: for an argument of another kind, negative, infinite or NaN.

    """

    base: float = 0.05
    factor: float = 2.0
    cap: float = 20.0
    jitter: Literal["full", "none"] = "full"

    def __post_init__(self) -> None:
        check_seconds("base", self.base, zero=True)
        check_seconds("cap", self.cap, zero=True)
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)):
            raise TypeError(f"factor must be a number of at least 1; got {shown(self.factor)}")
        if not 1 <= self.factor <= sys.float_info.max:  # False for NaN, and for ints beyond floats
            raise ValueError(f"factor must be a finite number of at least 1; got {shown(self.factor)}")
        if self.jitter not in ("full", "none"):
            raise ValueError(f'jitter must be "full" or "none"; got {self.jitter!r}')

    def __call__(self, n: int, error: Exception | None = None) -> float:  # noqa: ARG002 - the form of all backoffs
        """Return the seconds to wait before retry `n`, counted from 0; `error` plays no part."""
        longest = min(self.cap, self.base * self._growth(n)) if self.base else 0.0
        return longest if self.jitter == "none" else random.random() * longest  # noqa: S311 - no secret

    def _growth(self, n: int) -> float:
        try:
            return float(self.factor) ** n
        except OverflowError:  # the power, or n itself, is beyond a float
            return 1.0 if self.factor == 1 else math.inf


def check_backoff(backoff: object) -> None:
    """Refuse what is neither a callable nor an iterable that can be iterated anew."""
    rule = "backoff must be a Backoff(...), a function (n, error) -> seconds, or a list of seconds"
    if isinstance(backoff, type):
        raise TypeError(f"{rule}; got the class {backoff.__name__}: write {backoff.__name__}()")
    if callable(backoff):
        if is_async_callable(backoff):
            raise TypeError(f"{rule}; {backoff!r} is async, and the answer is needed at once: make it a plain def")
    elif isinstance(backoff, Iterator):
        raise TypeError(f"{rule}; the iterator {backoff!r} would be shared by all calls: give a list or a tuple")
    elif isinstance(backoff, (str, bytes)) or not isinstance(backoff, Iterable):
        raise TypeError(f"{rule}; got {backoff!r}")
    else:
        _check_schedule(backoff)


def _check_schedule(schedule: Iterable[object]) -> None:
    """Check a list or tuple whole; of any other iterable, which may be endless, the first delay."""
    delays = schedule if isinstance(schedule, (list, tuple)) else list(itertools.islice(schedule, 1))
    if not delays:
        raise ValueError("backoff must have at least one delay; got an empty iterable: write [0] for no wait")
    for n, seconds in enumerate(delays):
        check_seconds(f"backoff[{n}]", seconds, zero=True)


def delay_before(backoff: BackoffLike, n: int, error: Exception) -> float:
    """Return the seconds that `backoff` asks for before retry `n`; the last of an iterable repeats.

    Raises:
        TypeError, ValueError: if the user's backoff answers with something that cannot be waited.

    """
    if isinstance(backoff, Backoff):
        return backoff(n)
    if isinstance(backoff, (list, tuple)):  # checked when the policy was made
        delay: float = backoff[min(n, len(backoff) - 1)]
        return delay
    seconds = backoff(n, unwrap(error)) if callable(backoff) else _nth(backoff, n)
    check_seconds(f"the delay that backoff {name_of(backoff)} gives for retry {n}", seconds, zero=True)
    return seconds


def _nth(schedule: Iterable[float], n: int) -> float:
    last = 0.0
    for i, seconds in enumerate(schedule):
        last = seconds
        if i == n:
            break
    return last
