"""How many jobs run at once."""

import asyncio

import pytest

from aiosupervise import Backoff, Run, map_all, run_all, supervise

pytestmark = pytest.mark.looptime


class Crowd:
    """Counts how many jobs run at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def __call__(self, seconds: float) -> None:
        """A job: 0 fails, below 0 cancels itself."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(abs(seconds))
            if seconds == 0:
                raise ValueError
            if seconds < 0:
                raise asyncio.CancelledError
        finally:
            self.now -= 1


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (100, 10), (None, 10)])
async def test_the_limit_is_reached_and_never_passed(limit: int | None, most: int) -> None:
    """As many jobs run at once as the limit says, and None sets none."""
    crowd = Crowd()
    report = await map_all(crowd, [1] * 10, limit=limit)
    assert crowd.most == most
    assert report.elapsed == -(-10 // most)
    assert report.tally.limit == limit


async def test_the_limit_is_100_by_default() -> None:
    """A hundred at once, as many connections as aiohttp and httpx open."""
    crowd = Crowd()
    assert (await map_all(crowd, [1] * 250)).elapsed == 3
    assert crowd.most == 100
    given: Run[int] = run_all([])
    assert given.tally.limit == 100
    given.close()


async def test_no_failure_leaks_a_slot() -> None:
    """A slot is free again after a success, a failure and a cancel alike, and is filled at once."""
    crowd = Crowd()
    report = await map_all(crowd, [1, 0, -1, 1, 0, -1, 1, 1], limit=2)
    assert crowd.most == 2
    assert report.elapsed == 3
    assert (report.tally.succeeded, report.tally.failed) == (4, 4)


async def test_a_job_that_waits_to_retry_keeps_its_slot() -> None:
    """No other job starts in the slot of one that waits for its retry."""
    starts: list[tuple[int, float]] = []

    @supervise(retry_on=ConnectionError, backoff=Backoff(base=5, jitter="none"), max_retries=1)
    async def job(number: int) -> None:
        starts.append((number, asyncio.get_running_loop().time()))
        if len(starts) == 1:
            raise ConnectionError

    report = await map_all(job, [0, 1], limit=1)
    assert [number for number, _ in starts] == [0, 0, 1]
    assert starts[2][1] - starts[0][1] == 5
    assert not report.failed


async def test_live_counts_are_right_at_every_moment() -> None:
    """While the run goes on, the tally counts the running jobs, those that have ended, and all."""
    seen: list[tuple[int, int, int | None]] = []

    async def job(_: int) -> None:
        await asyncio.sleep(1)
        seen.append((run.tally.running, run.tally.succeeded, run.tally.total))

    run = map_all(job, range(4), limit=2)
    await run
    assert seen == [(2, 0, 4), (2, 0, 4), (2, 2, 4), (2, 2, 4)]
    assert (run.tally.running, run.tally.succeeded) == (0, 4)
