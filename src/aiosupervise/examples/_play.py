"""What is simulated: a batch against a service, or many clients that keep calling it. The code is the library's own."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from aiosupervise import Adaptive, AttemptTimeout, Overload, Policy, Run, run_all, supervise

from . import _virtual
from ._service import Broken, Nature, Service

_LOOK = 0.1  # seconds between looks at the state of a run
_WELL = 0.9  # the part of the calls that have to succeed ...
_FOR = 5  # ... for so many seconds, before clients are said to be served again


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What came of one simulation: its numbers by name, and when the service got requests and gave good answers."""

    numbers: dict[str, float]
    arrivals: list[float]
    answers: list[float]


class Scenario(Protocol):
    """What can be simulated."""

    def play(self, seed: int) -> Story:
        """Simulate it: the same seed brings the same story."""
        ...


def _simulate(
    program: Callable[[Service], Coroutine[object, None, dict[str, float]]], nature: Nature, seed: int
) -> Story:
    """Run a program with a service, in virtual time."""

    async def main() -> Story:
        service = Service(nature, Random(seed))
        numbers = await program(service)
        return Story(numbers=numbers, arrivals=service.arrivals, answers=service.answers)

    before = random.getstate()
    random.seed(seed)  # the jitter of the library
    try:
        return _virtual.run(main)
    finally:
        random.setstate(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of calls of a service, under a policy."""

    jobs: int
    limit: int | Adaptive | None
    policy: Policy
    nature: Nature
    overload: Overload | None

    def play(self, seed: int) -> Story:
        """Run the batch."""
        return _simulate(self._run, self.nature, seed)

    async def _run(self, service: Service) -> dict[str, float]:
        call = supervise(self.policy)(service.call)
        run = run_all([call] * self.jobs, limit=self.limit, overload=self.overload)
        paused: list[float] = []
        watch = asyncio.create_task(_watch(run, paused))
        report = await run
        watch.cancel()
        return {
            "done": len(report.succeeded),
            "failed": len(report.failed),
            "pending": len(report.pending),
            "attempts": len(service.arrivals),
            "per job": len(service.arrivals) / self.jobs,
            "seconds": report.elapsed,
            "paused": len(paused) * _LOOK,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Processes that call a service again and again, whatever comes of it, each with a policy of its own.

    Attributes:
        clients: how many there are.
        rate: how many calls a second each makes.
        until: when they make no more.
        policy: makes the policy of a client.
        nature: what the service is like.
        reserve: how many retries a second each client's budget gets without any success.

    """

    clients: int
    rate: float
    until: float
    policy: Callable[[], Policy]
    nature: Nature
    reserve: float = 0.0

    def play(self, seed: int) -> Story:
        """Let the clients call."""
        return _simulate(self._call, self.nature, seed)

    async def _call(self, service: Service) -> dict[str, float]:
        results: list[tuple[float, bool]] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client(service, results))
        trouble = self.nature.slow
        calls = sum(began >= trouble.start for began, _ in results)
        attempts = sum(came >= trouble.start for came in service.arrivals)
        return {"served again after": served_again(results, trouble.end, self.until), "per call": attempts / calls}

    async def _client(self, service: Service, results: list[tuple[float, bool]]) -> None:
        policy = self.policy()
        call = supervise(policy)(service.call)
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as calls:
            while now() < self.until:
                calls.create_task(_note(call, now(), results))
                pause = random.expovariate(self.rate)
                await asyncio.sleep(pause)
                if policy.budget is not None:
                    policy.budget.put(round(pause * self.reserve * policy.budget.cost))


async def _watch(run: Run[None], paused: list[float]) -> None:
    """Note the times at which the run is paused or probes."""
    while True:
        await asyncio.sleep(_LOOK)
        if "paused" in repr(run) or "probing" in repr(run):
            paused.append(asyncio.get_running_loop().time())


async def _note(call: Callable[[], Awaitable[None]], began: float, results: list[tuple[float, bool]]) -> None:
    try:
        await call()
    except (Broken, AttemptTimeout):
        results.append((began, False))
    else:
        results.append((began, True))


def served_again(results: Sequence[tuple[float, bool]], since: float, until: float) -> float:
    """Return how many seconds after `since` the clients are served well, and go on to be; infinity for never."""
    calls = Counter(int(began) for began, _ in results)
    good = Counter(int(began) for began, succeeded in results if succeeded)
    well = [good[second] >= _WELL * calls[second] for second in range(int(until))]
    for second in range(int(since), int(until) - _FOR + 1):
        if all(well[second : second + _FOR]):
            return second - int(since)
    return math.inf
