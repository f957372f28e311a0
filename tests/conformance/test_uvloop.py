"""The same rules on uvloop, which has no virtual clock: the waits are real, and some milliseconds long."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from aiosupervise import map_all, run_all, supervise
from aiosupervise._batch.strategies import StrategyName

from .laws import Witness

uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for this platform")

STRATEGIES: list[StrategyName] = ["gather", "as_completed", "wait"]


def run_on_uvloop(main: Callable[[], Coroutine[object, None, None]]) -> None:
    """Run `main` on a fresh uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert type(runner.get_loop()).__module__.startswith("uvloop")
        runner.run(main())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_retries_and_failures(strategy: StrategyName) -> None:
    """Jobs that retry, fail, and cancel themselves have one outcome each."""
    failed: set[int] = set()

    @supervise(retry_on=ConnectionError, backoff=[0.001])
    async def job(n: int) -> int:
        await asyncio.sleep(0.001)
        if n % 3 == 1 and n not in failed:
            failed.add(n)
            raise ConnectionError
        if n == 5:
            raise asyncio.CancelledError
        if n == 8:
            raise ValueError
        return n

    async def main() -> None:
        report = await map_all(job, range(12), strategy=strategy, limit=3)
        assert {outcome.index for outcome in report} == set(range(12))
        assert {failure.input for failure in report.failed} == {5, 8}
        assert report.tally.retries == 4

    run_on_uvloop(main)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("step", range(12))
def test_a_cancel_at_the_first_steps(strategy: StrategyName, step: int) -> None:
    """Whenever the caller is cancelled, once or twice, the rules hold, on uvloop too."""

    async def main() -> None:
        witness = Witness()
        run = witness.of(
            run_all(witness.async_jobs([witness.clean_up_slowly(n) for n in "abcd"]), strategy=strategy, limit=2)
        )

        async def caller() -> None:
            await run

        task = asyncio.create_task(caller())
        for _ in range(step + 1):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        witness.check()

    run_on_uvloop(main)
