"""The service of the simulation: what a client sees of a real one that has finite speed and can be in trouble."""

import asyncio
import heapq
import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds; no `end` means for ever."""

    start: float
    end: float = math.inf

    def __contains__(self, when: float) -> bool:
        return self.start <= when < self.end


NEVER = Span(math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """What a service is like.

    Attributes:
        workers: how many requests it works on at once; the others wait in line.
        seconds: what one takes on average; each differs at random, by the exponential distribution.
        down: when all answers are errors.
        slow: when it takes `slowdown` times as long.
        slowdown: see `slow`.
        allowed: how many requests a second it lets in, and at most in one burst; None for all.
        refusal: seconds until one that it does not let in is told so.
        unlucky: which part of its answers are errors, at random.

    """

    workers: int
    seconds: float = 0.1
    down: Span = NEVER
    slow: Span = NEVER
    slowdown: float = 5.0
    allowed: int | None = None
    refusal: float = 0.02
    unlucky: float = 0.0


class Broken(Exception):  # noqa: N818 - named after what the service answers
    """500: the service is down, or this request was unlucky."""


class TooMany(Exception):  # noqa: N818 - named after what the service answers
    """429: come back later."""

    retry_after = 1.0


class Service:
    """A service: first in, first out, and it cannot see that a client gave up.

    The place and the time of a request in the line are certain when it comes in, and so is when its answer will come.
    Whether anybody still waits for the answer plays no part: the worker is taken all the same.

    Attributes:
        arrivals: when requests came in.
        answers: when good answers reached somebody who still waited.

    """

    def __init__(self, nature: Nature, random: Random) -> None:
        self.arrivals: list[float] = []
        self.answers: list[float] = []
        self._nature = nature
        self._random = random
        self._free = [0.0] * nature.workers  # when each worker will have nothing to do: a heap
        self._tokens = math.inf if nature.allowed is None else nature.allowed
        self._filled = 0.0

    async def call(self) -> None:
        """Make a request.

        Raises:
            Broken: after the time that a good answer would have taken.
            TooMany: soon; no worker is taken.

        """
        now = asyncio.get_running_loop().time
        self.arrivals.append(now())
        if not self._lets_in(now()):
            await asyncio.sleep(self._nature.refusal)
            raise TooMany
        begun, done = self._put_in_line(now())
        await asyncio.sleep(done - now())
        if begun in self._nature.down or self._random.random() < self._nature.unlucky:
            raise Broken
        self.answers.append(now())

    def _lets_in(self, now: float) -> bool:
        allowed = self._nature.allowed
        if allowed is not None:
            self._tokens = min(allowed, self._tokens + (now - self._filled) * allowed)
            self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _put_in_line(self, now: float) -> tuple[float, float]:
        """Take the worker who is free first; tell when it begins and when it has done."""
        nature = self._nature
        begun = max(now, self._free[0])
        pace = nature.slowdown if begun in nature.slow else 1.0
        done = begun + self._random.expovariate(1 / nature.seconds) * pace
        heapq.heapreplace(self._free, done)
        return begun, done
