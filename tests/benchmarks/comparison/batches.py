"""What becomes of a batch: one probe for all libraries that run one."""

import asyncio
import itertools
import signal
import sys
import tempfile
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, nullcontext, suppress
from pathlib import Path
from typing import Any

from . import crashing
from .answers import Answer, Feature, answer, left_running, swallowed, turns, until
from .runners import Runner

PAGE = "reference/batches.md"


async def limit(lib: Runner) -> Answer:
    """Ten jobs, three at once."""
    running = most = 0

    async def job(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return number

    await lib.limited(job, range(10), 3)
    how = "a semaphore in the job: " if hasattr(lib.limited, "by_hand") else ""
    return answer(most == 3, f"{how}10 jobs, limit 3: {most} ran concurrently", using=lib.limited)


async def groups(lib: Runner) -> Answer:
    """Six pages of a slow host, then six of a quick one, four at once and two of each host."""
    running = Counter[str]()
    most = Counter[str]()
    ended: list[str] = []

    async def job(page: str) -> None:
        running[page[0]] += 1
        most[page[0]] = max(most[page[0]], running[page[0]])
        await asyncio.sleep(0.03 if page[0] == "s" else 0.001)
        running[page[0]] -= 1
        ended.append(page[0])

    await lib.grouped(job, [f"{host}{number}" for host in ("slow", "quick") for number in range(6)], 4, 2)
    good = most == {"s": 2, "q": 2} and ended[:6] == ["q"] * 6
    how = "a semaphore for each host, inside one for all: " if hasattr(lib.grouped, "by_hand") else ""
    return answer(
        good, f"{how}2 jobs per host ran concurrently, and the slow host did not hold up the other", using=lib.grouped
    )


async def rate(lib: Runner) -> Answer:
    """Three jobs, one in 20 ms."""
    started: list[float] = []

    async def job(_: int) -> None:
        started.append(asyncio.get_running_loop().time())

    await lib.paced(job, range(3), 0.02)
    paced = len(started) == 3 and started[-1] - started[0] > 0.03
    how = "aiolimiter in the job: " if hasattr(lib.paced, "by_hand") else ""
    return answer(paced, f"{how}3 jobs, one per 20 ms, started at intervals", using=lib.paced)


class GreedyError(Exception):
    """Somebody took a thousand inputs before the first result was read."""


def _endless() -> Iterator[int]:
    for number in itertools.count():
        if number == 1000:
            raise GreedyError
        yield number


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def _endless_async() -> AsyncGenerator[int]:
    for number in _endless():
        await asyncio.sleep(0)
        yield number


async def endless(lib: Runner) -> Answer:
    """Read nine results of a source that does not end, while its first job waits for the ninth."""
    return await _read_endless(lib, _endless)


async def async_source(lib: Runner) -> Answer:
    """The same for an async generator."""
    return await _read_endless(lib, _endless_async)


async def _read_endless(lib: Runner, source: Callable[[], Any]) -> Answer:
    try:
        async with asyncio.timeout(1), lib.completed(_first_waits(), source(), 3) as results:
            return answer(await _nine(results), "9 results were read, and the source continued")
    except GreedyError:
        seen = "reads inputs endlessly before the first result"
    except TypeError as error:
        seen = f"TypeError: {error}"
    with suppress(TimeoutError):
        async with asyncio.timeout(0.07), aclosing(lib.chunked(_first_waits(), source(), 3)) as results:
            return Answer("by hand" if await _nine(results) else "no", "with hand-written chunks")
    return answer(good=False, seen=f"{seen}; with hand-written chunks, a slow job holds up the others")


def _first_waits() -> Callable[[int], Any]:
    is_ninth = asyncio.Event()

    async def job(number: int) -> int:
        await asyncio.sleep(0)
        if number == 0:
            await is_ninth.wait()
        if number == 9:
            is_ninth.set()
        return number

    return job


async def _nine(results: AsyncIterator[int]) -> bool:
    taken = 0
    async for _ in results:
        taken += 1
        if taken == 9:
            break
    return taken == 9


async def stages(lib: Runner) -> Answer:
    """The second stage begins before the first one has ended."""
    log: list[str] = []

    async def first(number: int) -> int:
        await asyncio.sleep(0.001 * number)
        log.append("first")
        return number

    async def second(number: int) -> int:
        log.append("second")
        return number

    results = await lib.staged(first, second, range(6))
    overlaps = log.index("second") < 5 and sorted(results) == list(range(6))
    how = "a loop over the results of the first stage" if hasattr(lib.staged, "by_hand") else "the stages overlap"
    return answer(overlaps, how, using=lib.staged)


async def orders(lib: Runner) -> Answer:
    """Results in input order, and in completion order."""

    async def job(number: int) -> int:
        await turns(10 * (3 - number))
        return number

    ordered = await lib.ordered(job, range(3), 3)
    async with lib.completed(job, range(3), 3) as results:
        completed = [result async for result in results]
    return answer((list(ordered), completed) == ([0, 1, 2], [2, 1, 0]), f"{list(ordered)} and {completed}")


def _failing(error: Callable[[], BaseException]) -> Callable[[int], Any]:
    async def job(number: int) -> int:
        await asyncio.sleep(0)
        if number == 2:
            raise error()
        await turns(5)
        return number

    return job


def _described(results: list[Any]) -> str:
    return f"{len(results) or 'no'} results for 5 jobs{': ' * bool(results)}{', '.join(map(_short, results))}"


def _short(result: Any) -> str:
    return type(result).__name__ if isinstance(result, BaseException) else str(result)


async def _one_each(lib: Runner, error: Callable[[], BaseException]) -> Answer:
    """Whether five jobs, of which the third raises, have five results, that error among them."""
    job = _failing(error)
    good, seen = await _five(lib.each, job, type(error()))
    if not good and (await _five(lib.each_by_hand, job, type(error())))[0]:
        looks = "" if isinstance(error(), Exception) else " that checks the task's `cancelling()`"
        return Answer("by hand", f"{seen}; with a `try` in the job{looks}, 5 results")
    return answer(good, seen)


async def _five(each: Any, job: Callable[[int], Any], expected: type[BaseException]) -> tuple[bool, str]:
    task = asyncio.ensure_future(each(job, range(5), 3))
    done, _ = await asyncio.wait({task}, timeout=1)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        return False, "hangs"
    try:
        results = list(task.result())
    except BaseException as raised:  # that of a job, which is what we look for
        return False, f"the caller gets {_chain(raised)}, and no results"
    values = [number for number in results if isinstance(number, int)]
    return values == [0, 1, 3, 4] and type(results[2]) is expected, _described(results)


def _chain(raised: BaseException) -> str:
    leaf = raised
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return type(raised).__name__ + (f" of {type(leaf).__name__}" if leaf is not raised else "")


async def outcomes(lib: Runner) -> Answer:
    """A job raises a ValueError."""
    return await _one_each(lib, lambda: ValueError("bad"))


async def own_cancelled(lib: Runner) -> Answer:
    """A job raises CancelledError, which nobody asked it to."""
    return await _one_each(lib, asyncio.CancelledError)


async def stop_async_iteration(lib: Runner) -> Answer:
    """A job raises StopAsyncIteration."""
    return await _one_each(lib, StopAsyncIteration)


async def siblings(lib: Runner) -> Answer:
    """The first job fails while others run."""

    async def job(number: int) -> None:
        await asyncio.sleep(0)
        if number == 0:
            raise ValueError
        await asyncio.sleep(0.02)

    await swallowed(asyncio.ensure_future(lib.ordered(job, range(5), 3)))
    running = left_running()
    seen = f"5 jobs, the first one fails: {running or 'none'} kept running after control had returned"
    if running == 0:
        return answer(good=True, seen=seen)
    await until(lambda: left_running() == 0)
    await swallowed(asyncio.ensure_future(lib.each(job, range(5), 3)))
    if left_running() == 0:
        return Answer("partly", f"{seen}; none if errors are caught as results")
    return answer(good=False, seen=seen)


async def second_cancel(lib: Runner) -> Answer:
    """The caller is cancelled, and again while the jobs clean up."""
    cleaned = await _cleaned(lib, protect=False)
    if cleaned == 5:
        return answer(good=True, seen="cancelled twice: 5 of 5 jobs cleaned up before control returned")
    seen = f"cancelled twice: {'some' if cleaned else 'none'} of 5 jobs cleaned up before control returned"
    if await _cleaned(lib, protect=True) == 5:
        return Answer("by hand", f"{seen}; all with a {lib.shield} in each job's clean-up")
    return answer(good=False, seen=seen)


async def _cleaned(lib: Runner, *, protect: bool) -> int:
    cleaned = 0

    async def job(_: int) -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(1)
        finally:
            with lib.protected() if protect else nullcontext():
                await asyncio.sleep(0.02)
                cleaned += 1

    task = asyncio.ensure_future(lib.ordered(job, range(5), 5))
    await turns()
    for _ in range(2):
        task.cancel()
        await turns(3)
    await swallowed(task)
    return cleaned


async def pending(lib: Runner) -> Answer:
    """A timeout when two of four jobs are done."""

    async def job(number: int) -> int:
        await asyncio.sleep(0 if number < 2 else 1.5)
        return number

    done, missing = await lib.timed(job, range(4), 0.07)
    running = left_running()
    how = "asyncio.timeout and a result list" if hasattr(lib.timed, "by_hand") else "`timeout`"
    seen = f"{how}: {len(done)} results, {len(missing)} pending" + (f", {running} ran on" if running else "")
    return answer((sorted(done), missing, running) == ([0, 1], [2, 3], 0), seen, using=lib.timed)


async def slow_reader(lib: Runner) -> Answer:
    """One result of a hundred jobs is read, then nothing for a while."""
    started = 0

    async def job(number: int) -> int:
        nonlocal started
        started += 1
        await asyncio.sleep(0)
        return number

    async with lib.completed(job, range(100), 3) as results:
        meanwhile = await _read_slowly(results, lambda: started)
    seen = f"100 jobs, limit 3, only one result read so far: {_how_many(meanwhile)} had been started"
    if meanwhile < 10:
        return answer(good=True, seen=seen)
    started = 0
    async with lib.held_back(job, range(100), 3) as results:
        meanwhile = await _read_slowly(results, lambda: started)
    held = f"{seen}; {_how_many(meanwhile)} with a semaphore that jobs acquire and the reader releases"
    return answer(meanwhile < 10, held, using=lib.held_back)


async def _read_slowly(results: AsyncIterator[int], count: Callable[[], int]) -> int:
    """Give the count some time after the first result; then read the rest."""
    meanwhile = 0
    async for _ in results:
        if not meanwhile:
            await turns(1000)
            meanwhile = count()
    return meanwhile


def _how_many(started: int) -> str:
    return "fewer than 10" if started < 10 else "all" if started == 100 else "more than 10"


_OBSERVERS = {
    "pyarallel": "`on_progress` passes counts to a function",
    "streamable": "`observe` passes counts and time to a function or the log",
}


async def progress(lib: Runner) -> Answer:
    """What is drawn at the end of four jobs."""
    drawn = await lib.shown(_double, range(4))
    how = "a tqdm bar, updated for each result" if hasattr(lib.shown, "by_hand") else "shows 4/4 at the end"
    if (observer := _OBSERVERS.get(lib.name)) and "4/4" in drawn:
        return Answer("partly", f"{observer}; no bar")
    return answer("4/4" in drawn, how, using=lib.shown)


async def pause(lib: Runner) -> Answer:
    """The service is down for 0.2 s; each job is tried twice."""
    back = asyncio.get_running_loop().time() + 0.2

    async def job(number: int) -> int:
        await asyncio.sleep(0)
        if asyncio.get_running_loop().time() < back:
            raise ConnectionError
        return number

    good = await lib.ridden_out(job, range(60)) == list(range(60))
    seen = "all of 60 jobs succeeded" if good else "jobs were still started, and failed"
    return answer(good, f"a service that is down for 0.2 s: {seen}")


async def signals(lib: Runner) -> Answer:
    """A SIGTERM comes in the third job."""
    started = []

    async def job(number: int) -> int:
        started.append(number)
        await asyncio.sleep(0.001)
        if started[2:3] == [number]:
            signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.001)
        return number

    results = await lib.stopped(job, range(50))
    drained = sorted(results) == sorted(started) and len(started) < 20
    how = "a flag that each job checks" if hasattr(lib.stopped, "by_hand") else "`stop_on`"
    return answer(drained, f"{how}: jobs that were running at SIGTERM finished, no others started", using=lib.stopped)


async def threads(lib: Runner) -> Answer:
    """A blocking function, in threads."""
    barrier = threading.Barrier(3, timeout=1)

    def block(number: int) -> int:
        barrier.wait()
        return number

    results = await lib.threaded(block, range(3))
    how = (
        "asyncio.to_thread around the function"
        if hasattr(lib.threaded, "by_hand")
        else "3 functions blocked in threads at a time"
    )
    return answer(sorted(results) == [0, 1, 2], how, using=lib.threaded)


async def crash(lib: Runner) -> Answer:
    """A process is killed in the middle of a batch, and started again."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = [await _process(lib.name, folder) for _ in range(2)]
        calls = crashing.calls(folder)
    how = "one line of JSON per result, read at the next start: " if hasattr(lib.resumed, "by_hand") else ""
    if (first, second) != (b"", str(crashing.RESULTS).encode()):
        return Answer("no", f"{how}the process that was started again had no or wrong results")
    again = sum(calls.count(number) > 1 for number in range(crashing.DONE))
    seen = f"killed after {crashing.DONE} of {crashing.JOBS} jobs: {again or 'none'} of those ran again"
    return answer(again == 0, f"{how}{seen}", using=lib.resumed)


async def _process(library: str, folder: str) -> bytes:
    command = (sys.executable, "-m", crashing.__name__, library, folder)
    where = Path(__file__).parents[1]
    process = await asyncio.create_subprocess_exec(*command, cwd=where, stdout=PIPE, stderr=DEVNULL)
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.strip()


async def failures(lib: Runner) -> Answer:
    """All jobs fail: a run that stops after five failures makes few more calls."""
    started = 0

    async def job(_: int) -> None:
        nonlocal started
        started += 1
        await asyncio.sleep(0)
        raise ConnectionError

    await lib.given_up(job, range(100), 5)
    how = "a counter that each job checks: " if hasattr(lib.given_up, "by_hand") else ""
    seen = f"{how}100 jobs that fail, limit 3, stopped after 5 failures: {_how_many(started)} were started"
    return answer(started < 10, seen, using=lib.given_up)


BATCHES: tuple[Feature[Runner], ...] = (
    Feature("concurrency limit", f"{PAGE}#concurrency-limit", limit),
    Feature(
        "a limit for each group of jobs, such as a host",
        "how-to/many-services.md#limits-per-host-tenant-or-api-key",
        groups,
    ),
    Feature("rate limiting", "", rate),
    Feature("an endless source", f"{PAGE}#jobs", endless),
    Feature("an async generator as source", f"{PAGE}#jobs", async_source),
    Feature("a pipeline of stages", "how-to/stages.md#stages-fetch-parse-store", stages),
    Feature("blocking functions in threads", "", threads),
    Feature(
        "results in input order, and in completion order", f"{PAGE}#strategies-gather-as_completed-and-wait", orders
    ),
    Feature("an outcome for each job, including errors", f"{PAGE}#outcomes-and-the-report", outcomes),
    Feature("a job that raises CancelledError itself counts as failed", f"{PAGE}#how-runs-end", own_cancelled),
    Feature("a job that raises StopAsyncIteration counts as failed", f"{PAGE}#how-runs-end", stop_async_iteration),
    Feature("no job keeps running after one has failed", f"{PAGE}#how-runs-end", siblings),
    Feature("a second cancel does not interrupt clean-up", f"{PAGE}#how-runs-end", second_cancel),
    Feature("a timeout that keeps results and lists unfinished jobs", f"{PAGE}#timeouts-and-pending-jobs", pending),
    Feature("backpressure from a slow reader", f"{PAGE}#streaming", slow_reader),
    Feature("a progress bar", f"{PAGE}#progress-bar-and-live-counts", progress),
    Feature(
        "circuit breaker that pauses while the service is down",
        "reference/overload.md#how-the-circuit-breaker-works",
        pause,
    ),
    Feature("graceful shutdown on a signal", f"{PAGE}#signals-and-graceful-shutdown", signals),
    Feature("stops after a given number of failures", f"{PAGE}#how-runs-end", failures),
    Feature("resumes after `kill -9`", "how-to/survive-a-crash.md#run-the-same-line-again", crash, limit=40.0),
)
