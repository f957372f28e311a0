"""What needs time to pass, on uvloop: it has no virtual clock, so the waits are real, and some milliseconds long."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aiosupervise import AttemptTimeout, Failure, Pending, Success, map_all, run_all, supervise
from aiosupervise._batch.strategies import StrategyName

from .loops import uvloop_loop

every_strategy = pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])


@every_strategy
def test_retries_and_failures(strategy: StrategyName) -> None:
    """Jobs that wait and retry, fail, and cancel themselves have one outcome each."""
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

    with asyncio.Runner(loop_factory=uvloop_loop) as runner:
        runner.run(main())


@every_strategy
def test_timeouts(strategy: StrategyName) -> None:
    """An attempt timeout is that call's failure; after the timeout of the run, its running jobs are pending."""

    @supervise(retry_on=ConnectionError, attempt_timeout=0.005, max_retries=1, backoff=[0])
    async def too_slow() -> None:
        await asyncio.sleep(5)

    async def main() -> None:
        jobs: list[Callable[[], Awaitable[object]]] = [too_slow, lambda: asyncio.sleep(0)]
        first, second = sorted(await run_all(jobs, strategy=strategy), key=lambda outcome: outcome.index)
        (third,) = await run_all([asyncio.Event().wait], strategy=strategy, timeout=0.05)
        assert isinstance(first, Failure)
        assert isinstance(first.error, AttemptTimeout)
        assert first.attempts == 2
        assert isinstance(second, Success)
        assert isinstance(third, Pending)
        assert len(asyncio.all_tasks()) == 1

    with asyncio.Runner(loop_factory=uvloop_loop) as runner:
        runner.run(main())
