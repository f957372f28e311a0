"""One million jobs of which every tenth attempt fails, and as many restarts: memory as flat as at the start."""

import asyncio
import gc
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiosupervise import Failure, Outcome, Policy, Reason, Run, Success, Supervisor, map_all, supervise

LIMIT = 100
ONE_IN = 10  # attempts fail
FINAL_ONE_IN = 50  # of the failures is irrecoverable
GROWTH_IN_KB = 2_048
CYCLES_OF_OTHERS = 200  # objects, such as a loop that an earlier test has left; a cycle per failing call were thousands
STATM = Path("/proc/self/statm")


class Flaky:
    """A function of which exactly every tenth call fails, and every fiftieth failure for good."""

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0

    async def __call__(self, job: int) -> int:
        """Give the job back, or fail."""
        self.calls += 1
        fails = self.calls % ONE_IN == 0
        await asyncio.sleep(0)
        if fails:
            self.failures += 1
            raise LookupError(job) if self.failures % FINAL_ONE_IN == 0 else ConnectionError(job)
        return job


class Ledger:
    """Counts outcomes one by one, and takes the memory after the first tenth of them and at the end."""

    def __init__(self, jobs: int) -> None:
        self.reasons: Counter[Reason | None] = Counter()
        self.succeeded = 0
        self.attempts = 0
        self.memory: list[int] = []
        self._seen = bytearray(jobs)
        self._sample_after = {jobs // 10, jobs}
        self._read = 0

    def write(self, outcome: Outcome[int, int]) -> None:
        """Count one outcome, which must be the first of its job."""
        assert isinstance(outcome, Success | Failure)
        assert not self._seen[outcome.index]
        self._seen[outcome.index] = True
        self.attempts += outcome.attempts
        if isinstance(outcome, Success):
            assert outcome.value == outcome.input == outcome.index
            self.succeeded += 1
        else:
            self.reasons[outcome.reason] += 1
        self._read += 1
        if self._read in self._sample_after:
            self.memory.append(memory_in_kb())

    def is_complete(self) -> bool:
        """Whether every job has been seen."""
        return all(self._seen)


def memory_in_kb() -> int:
    """The memory that this process has in use."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No garbage collector: with it away, cyclic garbage would pile up for all to see."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log, as in a program that configures none: pytest keeps every record, and that would be what grows."""
    for level in ("call", "run", "supervisor"):
        monkeypatch.setattr(logging.getLogger(f"aiosupervise.{level}"), "disabled", True)


async def read(run: Run[int, int], jobs: int) -> Ledger:
    """Read a run to its end, one outcome at a time."""
    ledger = Ledger(jobs)
    async with run:
        async for outcome in run:
            ledger.write(outcome)
    return ledger


@pytest.mark.skipif(not STATM.exists(), reason="memory is read from /proc")
@pytest.mark.usefixtures("no_collector", "no_log", "untraced")
async def test_a_soak(*, thorough: bool, counts: Counter[str]) -> None:
    """With a tenth of all attempts failing, no count is off by one, and neither memory nor garbage grows."""
    jobs = 1_000_000 if thorough else 20_000
    flaky = Flaky()
    policy = Policy(retry_on=ConnectionError, irrecoverable=LookupError, max_retries=1, backoff=[0])
    run = map_all(supervise(policy)(flaky), range(jobs), strategy="as_completed", limit=LIMIT)
    ledger = await read(run, jobs)
    unreachable = gc.collect()

    irrecoverable, exhausted = ledger.reasons[Reason.IRRECOVERABLE], ledger.reasons[Reason.EXHAUSTED]
    assert ledger.is_complete()
    assert flaky.failures == flaky.calls // ONE_IN
    assert irrecoverable == flaky.failures // FINAL_ONE_IN > 0
    assert ledger.reasons.total() == irrecoverable + exhausted == run.tally.failed
    assert ledger.succeeded == jobs - run.tally.failed == run.tally.succeeded
    assert run.tally.retries == flaky.failures - irrecoverable - exhausted
    assert flaky.calls == jobs + run.tally.retries == ledger.attempts
    assert (run.tally.pending, run.tally.running, len(run.report)) == (0, 0, 0)

    growth = ledger.memory[1] - ledger.memory[0]
    counts["soak: jobs"] += jobs
    counts["soak: succeeded"] += ledger.succeeded
    counts["soak: failed, irrecoverable"] += irrecoverable
    counts["soak: failed, exhausted"] += exhausted
    counts["soak: attempts"] += flaky.calls
    counts["soak: failed attempts"] += flaky.failures
    counts["soak: retries"] += run.tally.retries
    counts["soak: memory in KB"] += ledger.memory[1]
    counts["soak: growth of memory after the first tenth, in KB"] += growth
    counts["soak: objects left in reference cycles"] += unreachable
    assert growth < GROWTH_IN_KB
    assert unreachable < CYCLES_OF_OTHERS


class Growth:
    """Takes the memory after the first tenth of some events, and at the end."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.seen = 0
        self._memory: list[int] = []

    def add(self) -> None:
        """Count an event."""
        self.seen += 1
        if self.seen in (self.events // 10, self.events):
            self._memory.append(memory_in_kb())

    def in_kb(self) -> int:
        """By how much it has grown."""
        before, after = self._memory
        return after - before


@pytest.mark.skipif(not STATM.exists(), reason="memory is read from /proc")
@pytest.mark.usefixtures("no_collector", "no_log", "untraced")
async def test_a_soak_of_restarts(*, thorough: bool, counts: Counter[str]) -> None:
    """A child that crashes a million times leaves neither memory nor garbage behind."""
    growth = Growth(1_000_000 if thorough else 10_000)

    async def crash() -> None:
        growth.add()
        if growth.seen == growth.events:
            sup.stop()
        raise ConnectionError(growth.seen)

    async with Supervisor(max_restarts=None, backoff=[0]) as sup:
        child = sup.start(crash, ready=10.0, heartbeat=10.0)
    unreachable = gc.collect()
    counts["soak: restarts"] += child.restarts
    counts["soak: growth of memory by restarts, in KB"] += growth.in_kb()
    assert child.restarts == growth.events - 1
    assert growth.in_kb() < GROWTH_IN_KB
    assert unreachable < CYCLES_OF_OTHERS


@pytest.mark.skipif(not STATM.exists(), reason="memory is read from /proc")
@pytest.mark.usefixtures("no_collector", "no_log", "untraced")
async def test_a_soak_of_children_that_come_and_go(*, thorough: bool, counts: Counter[str]) -> None:
    """Children that have ended are forgotten, with their names, arguments and errors."""
    growth = Growth(100_000 if thorough else 5_000)

    async def serve(_: object) -> None:
        growth.add()
        if growth.seen % ONE_IN == 0:
            raise ConnectionError

    async with Supervisor(strategy="simple_one_for_one") as sup:
        while growth.seen < growth.events:
            sup.start(serve, bytearray(100_000), restart="temporary")
            await sup.wait()
        assert sup.children() == ()
    unreachable = gc.collect()
    counts["soak: children that came and went"] += growth.seen
    counts["soak: growth of memory by children, in KB"] += growth.in_kb()
    assert growth.in_kb() < GROWTH_IN_KB
    assert unreachable < CYCLES_OF_OTHERS
