"""The simulated service: a queue, a number of workers, and a schedule of outages and slowness."""

import asyncio
import heapq
import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, in seconds; without an `end` it lasts for ever."""

    start: float
    end: float = math.inf

    def __contains__(self, when: float) -> bool:
        return self.start <= when < self.end


NEVER = Span(math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceModel:
    """The capacity of a service, and its faults.

    Attributes:
        workers: the number of requests that are processed at once; the others are queued.
        service_time: the mean time in seconds that a request takes a worker, exponentially distributed.
        down: when every response is an error.
        slow: when a request takes `slowdown` times as long.
        slowdown: see `slow`.
        rate_limit: the number of requests a second that are admitted, and the size of a burst; None for no limit.
        rejection_time: the seconds until a request over the rate limit is rejected.
        error_rate: the probability that a response is an error while the service is up.

    """

    workers: int
    service_time: float = 0.1
    down: Span = NEVER
    slow: Span = NEVER
    slowdown: float = 5.0
    rate_limit: int | None = None
    rejection_time: float = 0.02
    error_rate: float = 0.0


class InternalServerError(Exception):
    """500: the service is down, or the request failed at random."""


class TooManyRequests(Exception):  # noqa: N818 - the name of status 429
    """429: the request is over the rate limit."""

    retry_after = 1.0


class Service:
    """A simulated service, first in first out, that does not notice clients giving up.

    A request's place in the queue and the time of its response are determined when it arrives. An abandoned request
    occupies its worker as long as any other.

    Attributes:
        arrivals: the times at which requests arrived.
        successes: the times at which a successful response reached a client that still waited for it.

    """

    def __init__(self, model: ServiceModel, random: Random) -> None:
        self.arrivals: list[float] = []
        self.successes: list[float] = []
        self._model = model
        self._random = random
        # A heap of the times at which the workers will be idle.
        self._idle_from = [0.0] * model.workers
        # The rate limit is a token bucket.
        self._tokens = math.inf if model.rate_limit is None else model.rate_limit
        self._filled_at = 0.0

    async def call(self, *, is_bad: bool = False) -> None:
        """Make a request.

        Args:
            is_bad: whether the response is an error whenever the request is made.

        Raises:
            InternalServerError: after the time that a successful response would have taken.
            TooManyRequests: after the rejection time, without occupying a worker.

        """
        now = asyncio.get_running_loop().time
        self.arrivals.append(now())
        if not self._admit(now()):
            await asyncio.sleep(self._model.rejection_time)
            raise TooManyRequests
        started, finished = self._enqueue(now())
        await asyncio.sleep(finished - now())
        if is_bad or started in self._model.down or self._random.random() < self._model.error_rate:
            raise InternalServerError
        self.successes.append(now())

    def _admit(self, now: float) -> bool:
        limit = self._model.rate_limit
        if limit is not None:
            self._tokens = min(limit, self._tokens + (now - self._filled_at) * limit)
            self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _enqueue(self, now: float) -> tuple[float, float]:
        """Assign a request to the worker that is idle first; return when it starts and when it finishes."""
        model = self._model
        started = max(now, self._idle_from[0])
        factor = model.slowdown if started in model.slow else 1.0
        finished = started + self._random.expovariate(1 / model.service_time) * factor
        heapq.heapreplace(self._idle_from, finished)
        return started, finished
