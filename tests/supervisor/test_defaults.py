"""The defaults: how long a dead dependency is survived, and when a child that fails for ever ends its supervisor."""

import asyncio
import logging
import random

import pytest

from aiosupervise import Supervisor

from .scene import now

SEEDS = 100
pytestmark = [pytest.mark.looptime, pytest.mark.slow]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of failures are of no interest here."""
    caplog.set_level(logging.CRITICAL, "aiosupervise")


async def survives(outage: float) -> bool:
    """Whether ten children survive that what they depend on is down for so long."""
    back = now() + outage

    async def child() -> None:
        await asyncio.sleep(0.01)
        if now() < back:
            raise ConnectionError
        await asyncio.Event().wait()

    try:
        async with Supervisor() as sup:
            for _ in range(10):
                sup.start(child)
            await asyncio.sleep(outage + 60)
            sup.stop()
    except ExceptionGroup:
        return False
    return True


async def test_ten_children_survive_an_outage_of_half_a_minute() -> None:
    """In at least 99 of 100 seeds."""
    survived = 0
    for seed in range(SEEDS):
        random.seed(seed)
        survived += await survives(30.0)
    assert survived >= 99


async def test_a_child_that_fails_for_ever_ends_its_supervisor_within_ten_minutes() -> None:
    """The supervisor gives up after its restarts and their delays: neither at once nor never."""

    async def broken() -> None:
        raise ConnectionError

    taken: list[float] = []
    for seed in range(SEEDS):
        random.seed(seed)
        start = now()
        with pytest.raises(ExceptionGroup):
            async with Supervisor() as sup:
                sup.start(broken)
        taken.append(now() - start)
    assert min(taken) > 60
    assert max(taken) < 600
