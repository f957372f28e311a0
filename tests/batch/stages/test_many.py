"""Three large stages, ended at random moments."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from aiosupervise import Failure, Pending, Run, Stopped, Success, map_all

pytestmark = pytest.mark.slow


def stage(number: int, fails: float, dice: random.Random) -> Any:
    """Make the function of a stage that fails for this share of its inputs."""

    async def work(value: int) -> int:
        await asyncio.sleep(0)
        if dice.random() < fails:
            raise LookupError(value)
        return value

    work.__name__ = f"stage{number}"
    return work


class Three:
    """Three stages, the first of which has a list; they are ended when the last one has been called some times."""

    def __init__(self, size: int, fails: float, dice: random.Random) -> None:
        self.end: Callable[[], object] = int
        self._left = dice.randint(1, size)
        run: Any = list(range(size))
        for number, limit in enumerate((100, 20, 50)):
            work = stage(number, fails, dice)
            run = map_all(self._counted(work) if number == 2 else work, run, limit=limit)
        self.run: Run[int, int] = run

    def _counted(self, work: Any) -> Any:
        async def stage2(value: int) -> int:
            self._left -= 1
            if self._left == 0:
                self.end()
            result: int = await work(value)
            return result

        return stage2


@pytest.mark.parametrize("end", ["success", "failures", "stop", "cancel"])
async def test_each_input_has_one_outcome(end: str, counts: "Counter[str]", *, thorough: bool) -> None:
    """Whatever the end, and whenever it comes."""
    size, times = (100_000, 1 if end in ("success", "failures") else 5) if thorough else (5_000, 2)
    dice = random.Random(end)
    for _ in range(times):
        stages = Three(size, 0.1 if end == "failures" else 0.0, dice)
        run = stages.run
        task = asyncio.ensure_future(run)
        ends: dict[str, Callable[[], object]] = {"stop": run.stop, "cancel": task.cancel}
        stages.end = ends.get(end, int)
        with suppress(asyncio.CancelledError):
            await task
        report = run.report
        assert [outcome.index for outcome in report] == list(range(size))
        assert all(outcome.input == outcome.index for outcome in report)
        kinds = Counter(type(outcome) for outcome in report)
        counts[f"stages: {end}"] += len(report)
        if end == "success":
            assert kinds == {Success: size}
        elif end == "failures":
            assert kinds[Pending] == 0
            assert kinds[Failure] == pytest.approx(0.271 * size, rel=0.1)
        elif report.stopped is not None:
            assert report.stopped is (Stopped.STOP if end == "stop" else Stopped.CANCELLED)
            pending = {outcome.name.partition("-")[0] for outcome in report.pending}
            assert end == "cancel" or pending == {"stage0"}
