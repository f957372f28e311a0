"""Where ours differs from asyncio on purpose: both sides of each row of the table in the documentation, in one test."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aiosupervise import Failure, Pending, Success, run_all

from .beside import Cleaners, Make, Ordered, Strategy, fail, me, now, ours, read, succeed, sweep_up, theirs

eager_task_factory = getattr(asyncio, "eager_task_factory", None)
F = TypeVar("F", bound=Callable[..., object])
ROWS: set[tuple[str, str]] = set()
each_strategy = pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])


def row(who: str, what: str) -> Callable[[F], F]:
    """Say which row of the table a test is for: what stands in its first two columns."""
    ROWS.add((who, what))
    return lambda test: test


def test_every_row_of_the_table_has_a_test() -> None:
    """The table names no difference that is not shown here, and none that is shown here is missing from it."""
    page = (Path(__file__).parents[2] / "docs/explanation/beside-asyncio.md").read_text("utf-8")
    table = page.partition("## The differences")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)
    assert {(who.replace("`", ""), what.replace("`", "")) for who, what in rows} - {("---", "---")} == ROWS


@row("all", "start everything at once")
@pytest.mark.looptime
@each_strategy
async def test_start(strategy: Strategy) -> None:
    """Asyncio pulls and starts all jobs before the first has ended; ours as many as the limit allows."""
    pulled: list[float] = []

    def source() -> Iterator[Make]:
        for _ in range(3):
            pulled.append(now())
            yield succeed(1)

    await theirs(strategy, source())
    await run_all(source(), strategy=strategy, limit=1)
    assert pulled == [0, 0, 0, 1, 2, 3]


@row("all", "take no async iterable")
@pytest.mark.parametrize(
    "namesake",
    [lambda jobs: asyncio.gather(*jobs), lambda jobs: [*asyncio.as_completed(jobs)], asyncio.wait],
    ids=["gather", "as_completed", "wait"],
)
async def test_async_iterables(namesake: Callable[[Any], Any]) -> None:
    """An async generator is a TypeError for asyncio; ours runs what it gives."""

    async def source() -> AsyncIterator[Make]:
        yield succeed(0)

    with pytest.raises(TypeError, match="iterable"):
        await namesake(source())
    assert (await run_all(source())).values() == [0]


@row("all", "leave unfinished jobs running when control returns")
@pytest.mark.looptime
@each_strategy
async def test_left_running(strategy: Strategy) -> None:
    """After an early end asyncio's jobs run on; ours have been cancelled and have cleaned up."""
    jobs = Cleaners()
    first: dict[Strategy, Make] = {"gather": fail(1, OSError()), "as_completed": fail(1, OSError())}
    with suppress(OSError):
        if strategy == "wait":
            await asyncio.wait([asyncio.ensure_future(make()) for make in jobs.makes], timeout=1)
        else:
            await theirs(strategy, [first[strategy], *jobs.makes])
    assert len(asyncio.all_tasks()) == 4
    assert now() == 1
    await sweep_up()
    jobs = Cleaners()
    await run_all(jobs.makes, strategy=strategy, timeout=1)
    assert sorted(jobs.cleaned) == [0, 1, 2]
    assert asyncio.all_tasks() == {me()}


@row("all", "start jobs eagerly if the loop's task factory does")
@pytest.mark.skipif(eager_task_factory is None, reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize(
    "start",
    [
        asyncio.gather,
        lambda job: next(iter(asyncio.as_completed([job]))),
        lambda job: asyncio.wait([asyncio.ensure_future(job)]),
    ],
    ids=["gather", "as_completed", "wait"],
)
async def test_eager_tasks(start: Callable[[Any], Awaitable[object]]) -> None:
    """Asked for eager tasks, asyncio runs a job while it makes its task; ours makes the task, and the loop runs it."""
    asyncio.get_running_loop().set_task_factory(eager_task_factory)
    events: list[str] = []

    async def job() -> None:
        events.append("ran")

    def source() -> Iterator[Make]:
        yield job
        events.append("task made")

    waiting = start(job())
    events.append("task made")
    await waiting
    await run_all(source())
    assert events == ["ran", "task made", "task made", "ran"]


@row("all", "reject a future of another event loop, or never notice that it is done")
async def test_a_future_of_another_loop() -> None:
    """Gather and as_completed raise, wait waits; ours has a Failure of that job, and the result of the other."""
    other = asyncio.new_event_loop()
    foreign: asyncio.Future[int] = other.create_future()
    with pytest.raises((RuntimeError, ValueError), match="to a different loop"):
        await asyncio.gather(foreign)
    with pytest.raises(ValueError, match="belongs to a different loop"):
        await read(asyncio.as_completed([foreign]))
    assert await asyncio.wait([foreign], timeout=0) == (set(), {foreign})
    jobs: list[Awaitable[object]] = [foreign, succeed(0)()]
    first, second = await run_all(jobs)
    assert isinstance(first, Failure)
    assert "attached to a different loop" in str(first.error)
    assert isinstance(second, Success)
    (pending,) = await run_all([foreign], timeout=0)
    assert isinstance(pending, (Failure, Pending))
    assert not foreign.done()
    other.close()


@row("all", "number their tasks")
@each_strategy
async def test_names_of_tasks(strategy: Strategy) -> None:
    """The tasks of asyncio are called Task-1 and so on; ours after their function and their index."""
    names: list[str] = []

    async def fetch() -> None:
        names.append(me().get_name())

    await theirs(strategy, [fetch])
    await ours(strategy, [fetch])
    assert re.fullmatch(r"Task-\d+", names[0])
    assert names[1] == "fetch-0"


@row("gather", "raises the first error, or mixes errors and values with return_exceptions")
@pytest.mark.looptime
async def test_errors_of_gather() -> None:
    """Gather raises one error, or returns errors among values; ours has a record for each, and raises all errors."""
    makes = [fail(2, KeyError("k")), fail(1, OSError("o")), succeed(3)]
    with pytest.raises(OSError, match="o"):
        await asyncio.gather(*(make() for make in makes))
    await sweep_up()
    mixed = await asyncio.gather(*(make() for make in makes), return_exceptions=True)
    assert [type(result) for result in mixed] == [KeyError, OSError, int]
    report = await run_all(makes)
    assert [type(outcome) for outcome in report] == [Failure, Failure, Success]
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    assert [type(error) for error in caught.value.exceptions] == [KeyError, OSError]


@row("gather", "loses the results so far when the caller is cancelled")
@pytest.mark.looptime
async def test_results_of_a_cancelled_caller() -> None:
    """Gather's caller has nothing in its hands; `run.report` has every outcome, that of a swallowed cancel too."""

    async def swallow() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return "all the same"

    makes = [succeed(1), swallow, succeed(3)]
    future = asyncio.gather(*(make() for make in makes))
    run = run_all(makes)
    for awaitable in (future, run):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await awaitable
    with pytest.raises(asyncio.CancelledError):
        future.result()
    assert [type(outcome) for outcome in run.report] == [Success, Success, Pending]


@row("gather", "passes a second cancellation on to its jobs")
@pytest.mark.looptime
async def test_a_second_cancel() -> None:
    """The second cancel of gather's caller cuts its jobs' clean-up short; ours finishes it."""
    cleaned = []
    for way in (theirs, ours):
        jobs = Cleaners()
        caller = asyncio.ensure_future(way("gather", jobs.makes))
        for moment in (1, 1.5):
            asyncio.get_running_loop().call_later(moment, caller.cancel)
        await asyncio.wait([caller])
        cleaned.append(len(jobs.cleaned))
    assert cleaned == [0, 3]


@row("gather, as_completed", "raise a job's CancelledError as if the caller had been cancelled")
@pytest.mark.looptime
@pytest.mark.parametrize("strategy", ["gather", "as_completed"])
async def test_a_job_that_raises_cancelled_error(strategy: Strategy) -> None:
    """A CancelledError that nobody sent to the caller ends what awaits asyncio's; for ours it is that job's Failure."""
    makes = [succeed(2), fail(1, asyncio.CancelledError())]
    with pytest.raises(asyncio.CancelledError):
        await theirs(strategy, makes)
    assert me().cancelling() == 0
    await sweep_up()
    report = await run_all(makes, strategy=strategy)
    assert [(outcome.index, type(outcome.error)) for outcome in report.failed] == [(1, asyncio.CancelledError)]
    assert len(report.succeeded) == 1


@row("gather, as_completed", "run a coroutine only once, even if it is passed twice")
@pytest.mark.looptime
async def test_a_coroutine_that_comes_twice() -> None:
    """Gather gives its result at both positions, as_completed once; ours raises TypeError, and reports the first."""
    job = succeed(1)
    again: Any = job()
    assert list(await asyncio.gather(again, again)) == [1, 1]
    again = job()
    assert await read(asyncio.as_completed([again, again])) == [1]
    again = job()
    run = run_all([again, again])
    with pytest.raises(TypeError, match="was given before"):
        await run
    assert run.report.values() == [1]


@row("as_completed, wait", "report only one result for a task that is passed twice")
@pytest.mark.looptime
async def test_a_task_that_comes_twice() -> None:
    """As_completed and wait put jobs into a set; ours gives an outcome for each index of the input, as gather does."""
    task = asyncio.ensure_future(succeed(1)())
    assert await read(asyncio.as_completed([task, task])) == [1]
    done, _ = await asyncio.wait([task, task])
    assert len(done) == 1
    assert (await run_all([task, task], strategy="as_completed")).values() == [1, 1]
    assert (await run_all([task, task], strategy="wait")).values() == [1, 1]


@row("as_completed", "starts jobs in an arbitrary order")
async def test_start_order() -> None:
    """As_completed starts jobs in the order of a set of them; ours in input order, and each outcome has its index."""
    started: list[int] = []
    await read(asyncio.as_completed([Ordered(place, started) for place in (2, 1, 0)]))
    assert started == [0, 1, 2]
    started.clear()
    report = await run_all([Ordered(place, started) for place in (2, 1, 0)], strategy="as_completed")
    assert started == [2, 1, 0]
    assert sorted(outcome.index for outcome in report) == [0, 1, 2]


@row("as_completed", "raises a job's error where its result is read")
@pytest.mark.looptime
async def test_errors_of_as_completed() -> None:
    """A loop over as_completed ends with the first error; one over ours goes on, and knows which job failed."""
    makes = [fail(1, OSError("o")), succeed(2)]
    with pytest.raises(OSError, match="o"):
        await read(asyncio.as_completed([make() for make in makes]))
    await sweep_up()
    async with run_all(makes, strategy="as_completed") as run:
        seen = [(type(outcome), outcome.index) async for outcome in run]
    assert seen == [(Failure, 0), (Success, 1)]


@row("as_completed", "raises TimeoutError from the loop over it")
@pytest.mark.looptime
async def test_timeout_of_as_completed() -> None:
    """As_completed's timeout breaks the loop; ours ends it, with what is missing as Pending at the end."""
    makes = [succeed(9), succeed(1), succeed(2)]
    with pytest.raises(TimeoutError):
        await read(asyncio.as_completed([make() for make in makes], timeout=1.5))
    await sweep_up()
    report = await run_all(makes, strategy="as_completed", timeout=1.5)
    assert [(type(outcome), outcome.index) for outcome in report] == [(Success, 1), (Pending, 0), (Pending, 2)]


def answer_at(moment: float) -> asyncio.Future[str]:
    """An answer that arrives at this moment."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    loop.call_at(loop.time() + moment, answer.set_result, "there")
    return answer


@row("as_completed", "drops the results that arrive in the iteration of the event loop in which the timeout fires")
@pytest.mark.looptime
async def test_results_at_the_timeout_of_as_completed() -> None:
    """As_completed has none of the answers that arrive together with its timeout; ours has them all."""

    async def job() -> str:
        return await answer

    answer = answer_at(1)
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await read(asyncio.as_completed([job(), job()], timeout=1))
    answer = answer_at(1)
    report = await run_all([job(), job()], strategy="as_completed", timeout=1)
    assert report.values() == ["there", "there"]


@row(
    "wait",
    "counts a job that ends when the timeout fires as done or pending, depending on the order of the loop's callbacks",
)
@pytest.mark.looptime
@pytest.mark.parametrize("timer_first", [False, True])
async def test_results_at_the_timeout_of_wait(*, timer_first: bool) -> None:
    """For asyncio.wait the order of two timers decides that are due at the same time; for ours the answer counts."""

    async def job(*, asks_at_once: bool) -> None:
        if not asks_at_once:
            await asyncio.sleep(0)
        await asyncio.sleep(1)

    task = asyncio.ensure_future(job(asks_at_once=not timer_first))
    if not timer_first:
        await asyncio.sleep(0)
    done, _ = await asyncio.wait([task], timeout=1)
    assert (done == {task}) is not timer_first
    await task
    report = await run_all([job(asks_at_once=not timer_first)], strategy="wait", timeout=1)
    assert [type(outcome) for outcome in report] == [Success]


@row("wait", "accepts neither coroutines nor an empty input")
async def test_what_wait_does_not_take() -> None:
    """Coroutines are a TypeError for asyncio.wait, and nothing is a ValueError; ours takes both."""
    coroutine = succeed(0)()
    with pytest.raises(TypeError, match="coroutines is forbidden"):
        await asyncio.wait([coroutine])  # type: ignore[type-var]  # the case in question
    with pytest.raises(ValueError, match="empty"):
        await asyncio.wait([])
    assert (await run_all([coroutine], strategy="wait")).values() == [0]
    assert list(await run_all([], strategy="wait")) == []


@row("wait", "returns two sets of tasks")
@pytest.mark.looptime
async def test_results_of_wait() -> None:
    """Asyncio.wait gives sets of tasks, done and pending; ours results in order of completion, pending last."""
    makes = [succeed(9), succeed(2), succeed(1)]
    done, pending = await asyncio.wait([asyncio.ensure_future(make()) for make in makes], timeout=3)
    assert {type(done), type(pending)} == {set}
    assert {type(one) for one in done | pending} == {asyncio.Task}
    await sweep_up()
    report = await run_all(makes, strategy="wait", timeout=3)
    assert [getattr(outcome, "value", None) for outcome in report] == [1, 2, None]


@row("wait", "leaves the pending tasks running")
@pytest.mark.looptime
async def test_pending_of_wait() -> None:
    """What is pending for asyncio.wait runs on; for ours it has ended, and can be run again."""
    makes = [succeed(1), succeed(2)]
    _, pending = await asyncio.wait([asyncio.ensure_future(make()) for make in makes], return_when="FIRST_COMPLETED")
    assert await pending.pop() == 2
    report = await run_all(makes, strategy="wait", return_when="FIRST_COMPLETED")
    assert asyncio.all_tasks() == {me()}
    (outcome,) = report.pending
    assert outcome.job is not None
    assert await outcome.job() == 2
