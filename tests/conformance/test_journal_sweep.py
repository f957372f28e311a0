"""Runs with a journal, whose caller is cancelled at any step: the rules of a clean end hold, and nothing is lost."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import Journal, Run, Success, map_all

from .laws import Witness, play
from .loops import VirtualLoop, moments
from .scenarios import MIXED, Strategy

STRATEGIES: list[Strategy] = ["gather", "as_completed", "wait"]
KNOWN = (0, 1, 4)  # of the inputs; all of them return
_numbers = itertools.count()


def indexes(witness: Witness) -> Iterator[int]:
    """A source of inputs that must be closed."""
    witness._open_sources += 1
    try:
        for index in range(len(MIXED)):
            witness.pulled += 1
            yield index
    finally:
        witness._open_sources -= 1


async def work(index: int) -> object:
    """A job."""
    return await MIXED[index]()


async def awaited(witness: Witness, run: Run[object]) -> None:
    """Await a run."""
    await witness.of(run)


async def streamed(witness: Witness, run: Run[object]) -> None:
    """Read a run to its end."""
    async with witness.of(run):
        async for outcome in run:
            witness.read.append(outcome)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("get", [awaited, streamed])
def test_a_cancel_at_any_step(
    tmp_path: Path,
    strategy: Strategy,
    get: Callable[[Witness, Run[object]], Awaitable[None]],
    counts: Counter[str],
    *,
    thorough: bool,
) -> None:
    """Some inputs are known; what a run has reported as a success is known to the next one."""
    path = tmp_path / "run.db"
    suffix = ""
    done: list[int] = []

    def key(index: int) -> str:
        return f"{index}" if index in KNOWN else f"{index}{suffix}"

    async def prepare() -> None:
        await map_all(work, KNOWN, journal=Journal(path, key=key))

    async def scene(witness: Witness) -> None:
        nonlocal suffix
        suffix = f" {next(_numbers)}"

        async def call(index: int) -> object:
            return await witness.job(MIXED[index])

        journal = Journal(path, key=key)
        run: Any = map_all(call, indexes(witness), strategy=strategy, limit=2, journal=journal, name="work")
        try:
            await get(witness, run)
        finally:
            outcomes = [*witness.read, *run.report]
            done[:] = sorted(outcome.index for outcome in outcomes if isinstance(outcome, Success))

    async def check() -> None:
        async def fail(_: int) -> None:
            raise LookupError

        report = await map_all(fail, range(len(MIXED)), journal=Journal(path, key=key), name="work")
        known = {outcome.index for outcome in report.succeeded}
        assert known == {*KNOWN, *done}

    def looped(make: Callable[[], Awaitable[None]]) -> None:
        asyncio.run(_await(make()))

    looped(prepare)
    loop = VirtualLoop()
    try:
        steps = play(loop, scene).count
        looped(check)
        for k in range(1, steps + 1):
            for cancel_at in moments(k, thorough=thorough):
                counts["sweep: cancels"] += play(loop, scene, cancel_at, listened=k % 2 == 0).cancels
                counts["sweep: cancelled runs"] += 1
                looped(check)
    finally:
        loop.close()


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable
