"""Scripted runs of several stages, for the sweep."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from aiosupervise import Run, map_all, run_all, supervise

from .laws import Make, Witness
from .loops import pause, seconds
from .scenarios import MIXED, Scenario, Strategy, read, sleeper, swallow_one_cancel

Jobs: TypeAlias = Any


def stages(witness: Witness, jobs: Jobs, strategy: Strategy, **options: Any) -> Run[object, Any]:
    """Two stages after one whose jobs these are; each takes its time, and fails for some of the values."""
    first = run_all(jobs, limit=2, name="first")
    second: Run[Any, Any] = map_all(later(witness, "second"), first, limit=1)
    last: Run[Any, Any] = map_all(later(witness, "last"), second, limit=2, strategy=strategy, **options)
    return witness.of(last, first, second)


def later(witness: Witness, name: str) -> Callable[[object], Awaitable[object]]:
    """The function of a stage: it waits, retries, or needs time after its cancel, according to its input."""

    @supervise(retry_on=ConnectionError, backoff=[seconds(1)], name=name)
    async def work(value: object) -> object:
        if value == 3:
            return await witness.clean_up_slowly(name)()
        await pause(1)
        if value == "then" and failures.pop(name, False):
            raise ConnectionError
        return value

    failures = {name: True}

    async def counted(value: object) -> object:
        return await witness.job(lambda: work(value))

    counted.__name__ = name
    return counted


# Scenarios


async def plain_stages(witness: Witness, strategy: Strategy) -> None:
    """Jobs that succeed, fail, and cancel themselves, from a generator."""
    await stages(witness, witness.jobs(MIXED), strategy)


async def stages_of_a_list(witness: Witness, strategy: Strategy) -> None:
    """The same, from a list, which remembers what was never pulled."""
    await stages(witness, witness.listed(MIXED), strategy)


async def a_stream_of_stages(witness: Witness, strategy: Strategy) -> None:
    """The same, read one by one."""
    await read(witness, stages(witness, witness.jobs(MIXED), strategy))


async def stages_left_early(witness: Witness, strategy: Strategy) -> None:
    """A reader that goes while every stage has jobs."""
    await read(witness, stages(witness, witness.async_jobs(MIXED), strategy), most=2)


async def stopped_stages(witness: Witness, strategy: Strategy) -> None:
    """Stages that a job of the first one stops: what it has done goes through them all."""
    makes: list[Make] = []
    run = stages(witness, witness.async_jobs(makes), strategy)

    async def stop() -> None:
        await pause(1)
        run.stop()

    makes += [sleeper(3), stop, sleeper(2), sleeper(2)]
    try:
        await run
    finally:
        makes.clear()  # a source that was not opened holds them, and they hold the run


async def stages_of_a_failing_source(witness: Witness, strategy: Strategy) -> None:
    """A first stage whose source raises while jobs run."""
    jobs = witness.jobs([sleeper(2), sleeper(5), sleeper(1)], error=LookupError)
    with suppress(LookupError):
        await stages(witness, jobs, strategy)


async def stages_until_an_exception(witness: Witness, strategy: Strategy) -> None:
    """Stages that an outcome of the first one ends; under the other strategies, ones that it does not."""
    makes = [sleeper(1, error=OSError), witness.clean_up_slowly("a"), swallow_one_cancel, sleeper(20)]
    when: Literal["FIRST_EXCEPTION", "ALL_COMPLETED"]
    when = "FIRST_EXCEPTION" if strategy == "wait" else "ALL_COMPLETED"
    await stages(witness, witness.listed(makes), strategy, return_when=when)


async def stages_in_time(witness: Witness, strategy: Strategy) -> None:
    """Stages that the timeout of the last one ends."""
    makes = [sleeper(1), swallow_one_cancel, witness.clean_up_slowly("a"), sleeper(20)]
    await stages(witness, witness.listed(makes), strategy, timeout=0.05)


ANY_TIME: list[Scenario] = [
    plain_stages,
    stages_of_a_list,
    a_stream_of_stages,
    stages_left_early,
    stopped_stages,
    stages_of_a_failing_source,
    stages_until_an_exception,
]
VIRTUAL_TIME: list[Scenario] = [stages_in_time]
