"""The two kinds of simulation: a batch, and independent clients. Calls, retries and runs are the library's own code."""

import asyncio
import copy
import functools
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from aiosupervise import (
    Adaptive,
    AttemptTimeout,
    Event,
    Overload,
    Policy,
    RunFinished,
    RunPaused,
    RunResumed,
    run_all,
    supervise,
)

from . import virtual_time
from .service import InternalServerError, Service, ServiceModel

# Clients have recovered when this share of their calls succeeds in each of this many seconds in a row.
_HEALTHY_SHARE = 0.9
_HEALTHY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one simulation.

    Attributes:
        figures: a number for each column of the table, by the column's name.
        arrivals: the times at which the service received requests.
        successes: the times of its successful responses.

    """

    figures: dict[str, float]
    arrivals: list[float]
    successes: list[float]


class Scenario(Protocol):
    """A line of a table."""

    def simulate(self, seed: int) -> Result:
        """Run the simulation: the same seed gives the same result."""
        ...


def _simulate(
    program: Callable[[Service], Coroutine[object, None, dict[str, float]]], model: ServiceModel, seed: int
) -> Result:
    """Run a program against a service, in virtual time."""

    async def main() -> Result:
        service = Service(model, Random(seed))
        figures = await program(service)
        return Result(figures=figures, arrivals=service.arrivals, successes=service.successes)

    # The library's jitter comes from the global generator.
    before = random.getstate()
    random.seed(seed)
    try:
        return virtual_time.run(main)
    finally:
        random.setstate(before)


class _PauseTimer:
    """Adds up the seconds for which a run is paused or probing."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def __call__(self, event: Event) -> None:
        now = asyncio.get_running_loop().time()
        # A probe that fails is followed by another RunPaused.
        if isinstance(event, RunPaused) and self._since is None:
            self._since = now
        elif isinstance(event, RunResumed | RunFinished) and self._since is not None:
            self.seconds += now - self._since
            self._since = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of calls under a policy.

    Attributes:
        jobs: the number of jobs.
        limit: how many run at a time.
        policy: the policy of their calls.
        model: the service.
        overload: the protection of the run.
        bad: the number of jobs whose request always fails, spread at random.
        bad_block: whether these follow each other instead, from the middle on.

    """

    jobs: int
    limit: int | Adaptive | None
    policy: Policy
    model: ServiceModel
    overload: Overload | None
    bad: int = 0
    bad_block: bool = False

    def simulate(self, seed: int) -> Result:
        """Run the batch."""
        return _simulate(functools.partial(self._run, self._bad_jobs(seed)), self.model, seed)

    def _bad_jobs(self, seed: int) -> frozenset[int]:
        if self.bad_block:
            return frozenset(range(self.jobs // 2, self.jobs // 2 + self.bad))
        return frozenset(Random(seed).sample(range(self.jobs), self.bad))

    async def _run(self, bad: frozenset[int], service: Service) -> dict[str, float]:
        # A budget is used up by one simulation, and full at the start of the next.
        policy = self.policy.replace(budget=copy.copy(self.policy.budget))
        call = supervise(policy)(service.call)
        pauses = _PauseTimer()
        jobs = [functools.partial(call, is_bad=n in bad) for n in range(self.jobs)]
        report = await run_all(jobs, limit=self.limit, overload=self.overload, listen=pauses)
        return {
            "done": len(report.succeeded),
            "failed": len(report.failed),
            "pending": len(report.pending),
            "attempts": len(service.arrivals),
            "per job": len(service.arrivals) / self.jobs,
            "seconds": report.elapsed,
            "paused": pauses.seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Independent clients that call the service at a constant rate, whatever becomes of their calls.

    Attributes:
        clients: the number of clients.
        rate: the calls a second that each makes, on average.
        until: the time at which they stop calling.
        policy: returns the policy of one client.
        model: the service.
        reserve: the retries a second that each client's budget gains without any success.

    """

    clients: int
    rate: float
    until: float
    policy: Callable[[], Policy]
    model: ServiceModel
    reserve: float = 0.0

    def simulate(self, seed: int) -> Result:
        """Let the clients call the service."""
        return _simulate(self._run, self.model, seed)

    async def _run(self, service: Service) -> dict[str, float]:
        results: list[tuple[float, bool]] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._run_client(service, results))
        slow = self.model.slow
        calls = sum(started >= slow.start for started, _ in results)
        attempts = sum(arrived >= slow.start for arrived in service.arrivals)
        return {"recovered after": recovery_time(results, slow.end, self.until), "per call": attempts / calls}

    async def _run_client(self, service: Service, results: list[tuple[float, bool]]) -> None:
        policy = self.policy()
        call = supervise(policy)(service.call)
        now = asyncio.get_running_loop().time
        async with asyncio.TaskGroup() as calls:
            while now() < self.until:
                calls.create_task(_record(call, now(), results))
                pause = random.expovariate(self.rate)
                await asyncio.sleep(pause)
                if policy.budget is not None:
                    policy.budget.put(round(pause * self.reserve * policy.budget.cost))


async def _record(call: Callable[[], Awaitable[None]], started: float, results: list[tuple[float, bool]]) -> None:
    """Make a call, and record when it started and whether it succeeded."""
    try:
        await call()
    except (InternalServerError, AttemptTimeout):
        results.append((started, False))
    else:
        results.append((started, True))


def recovery_time(results: Sequence[tuple[float, bool]], since: float, until: float) -> float:
    """Return the seconds from `since` until the clients have recovered; infinity if they have not by `until`."""
    calls = Counter(int(started) for started, _ in results)
    successes = Counter(int(started) for started, succeeded in results if succeeded)
    healthy = [successes[second] >= _HEALTHY_SHARE * calls[second] for second in range(int(until))]
    for second in range(int(since), int(until) - _HEALTHY_SECONDS + 1):
        if all(healthy[second : second + _HEALTHY_SECONDS]):
            return second - int(since)
    return math.inf
