"""A run that is paused, probing or waiting for the server, its caller cancelled at any step."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from typing import Any

import pytest

from aiosupervise import Budget, Overload, run_all, supervise

from .laws import Witness, play
from .loops import VirtualLoop


class BusyError(ConnectionError):
    """The service asks to wait."""

    def __init__(self, retry_after: float | None) -> None:
        super().__init__()
        self.retry_after = retry_after


def held(budget: int, retry_after: float | None, strategy: Any) -> Callable[[Witness], Awaitable[object]]:
    """A scene with a service that fails: the run pauses, probes, fails, and resumes or stops."""

    async def scene(witness: Witness) -> None:
        random.seed(5)
        tried = 0

        def make(number: int) -> Callable[[], Coroutine[object, None, object]]:
            @supervise(retry_on=ConnectionError, backoff=[0.01])
            async def call() -> int:
                nonlocal tried
                tried += 1
                await asyncio.sleep(0.005)
                if number % 3 == 0 and tried < 12:
                    raise BusyError(retry_after)
                return number

            return call

        setting = Overload(budget=Budget(capacity=budget), first_pause=0.02, longest_pause=0.05, probes=3)
        jobs = witness.jobs(make(number) for number in range(8))
        await witness.of(run_all(jobs, limit=4, strategy=strategy, overload=setting))

    return scene


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize(
    ("budget", "retry_after"), [(0, None), (14, None), (500, 0.02), (0, 0.02)], ids=["empty", "one", "asks", "both"]
)
def test_a_caller_cancelled_at_any_step_leaves_it_clean(budget: int, retry_after: float | None, strategy: Any) -> None:
    """Whatever state the run is in: one outcome for each job, no task, no cycle, no warning, at once."""
    scene = held(budget, retry_after, strategy)
    with closing(VirtualLoop()) as loop:
        steps = play(loop, scene).count
        assert steps > 20
        for step in range(1, steps + 1):
            play(loop, scene, [step])
