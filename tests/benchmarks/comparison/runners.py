"""The libraries that run a batch, each said to run one in its own words, the best that its documentation has."""

import asyncio
import datetime as dt
import io
import json
import signal
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, redirect_stderr, suppress
from functools import partial
from importlib import import_module
from operator import length_hint
from pathlib import Path
from typing import Any

import aiosupervise

from .answers import Library, by_hand

Job = Callable[[Any], Coroutine[Any, Any, Any]]
Source = Iterable[Any] | AsyncIterable[Any]


class Runner(Library):
    """What probes ask of a library that runs a batch."""

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        """Give the results in input order."""
        raise NotImplementedError

    async def each(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        """Give a result or an error for each input, in input order: the best way that the library has for it."""
        return await self.ordered(func, inputs, limit)

    async def each_by_hand(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        """Do the same where the library has no way for it: a job that gives its error as its result."""
        return await self.ordered(caught(func), inputs, limit)

    def completed(self, func: Job, source: Source, limit: int) -> Any:
        """Give an async context manager of an async iterator of results in completion order."""
        raise NotImplementedError

    @by_hand
    @asynccontextmanager
    async def held_back(self, func: Job, inputs: Sequence[Any], limit: int) -> AsyncIterator[AsyncIterator[Any]]:
        """Stream with this many results unread: by hand, a semaphore that jobs acquire and the reader releases."""
        semaphore = asyncio.Semaphore(limit)

        async def job(number: Any) -> Any:
            await semaphore.acquire()
            return await func(number)

        async with self.completed(job, inputs, limit) as results:

            async def values() -> AsyncIterator[Any]:
                async for result in results:
                    yield result
                    semaphore.release()

            yield values()

    async def chunked(self, func: Job, source: Any, limit: int) -> AsyncGenerator[Any]:
        """Stream an endless source by hand, one chunk after the other."""
        while chunk := [await anext(source) if hasattr(source, "__anext__") else next(source) for _ in range(limit)]:
            async with self.completed(func, chunk, limit) as results:
                async for result in results:
                    yield result

    @by_hand
    async def limited(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        """Run this many at once: by hand, a semaphore in the job."""
        semaphore = asyncio.Semaphore(limit)

        async def job(number: Any) -> Any:
            async with semaphore:
                return await func(number)

        return await self.ordered(job, inputs, len(inputs))

    @by_hand
    async def grouped(self, func: Job, inputs: Sequence[Any], limit: int, each: int) -> list[Any]:
        """Run this many at once, and this many of each group: by hand, a semaphore for each, and inside one for all."""
        groups, slots = defaultdict[str, Any](partial(asyncio.Semaphore, each)), asyncio.Semaphore(limit)

        async def job(page: Any) -> Any:
            async with groups[page[0]], slots:
                return await func(page)

        return await self.ordered(job, inputs, len(inputs))

    @by_hand
    async def paced(self, func: Job, inputs: Sequence[Any], seconds: float) -> Any:
        """Start one job in this many seconds: by hand, aiolimiter's limiter in the job."""
        limiter = import_module("aiolimiter").AsyncLimiter(1, seconds)

        async def job(number: Any) -> Any:
            async with limiter:
                return await func(number)

        return await self.ordered(job, inputs, len(inputs))

    @by_hand
    async def staged(self, first: Job, second: Job, source: Sequence[Any]) -> list[Any]:
        """Feed the results of one stage to the next: by hand, a task for each result that comes."""
        async with self.completed(first, source, 2) as halves, asyncio.TaskGroup() as group:
            tasks = [group.create_task(second(half)) async for half in halves]
        return [task.result() for task in tasks]

    @by_hand
    async def timed(self, func: Job, inputs: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
        """Give the results and the inputs that have none, after this many seconds: by hand, keep what was streamed."""
        done = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self.completed(func, inputs, len(inputs)) as results:
                async for result in results:
                    done.append(result)  # noqa: PERF401 - what came before the timeout is kept
        return done, [number for number in inputs if number not in done]

    @by_hand
    async def shown(self, func: Job, inputs: Sequence[Any]) -> str:
        """Show a bar, and give what was drawn: by hand, one of tqdm."""
        drawn = io.StringIO()
        with import_module("tqdm").tqdm(total=len(inputs), file=drawn) as bar:
            async with self.completed(func, inputs, len(inputs)) as results:
                async for _ in results:
                    bar.update()
        return drawn.getvalue()

    async def ridden_out(self, func: Job, inputs: Sequence[Any]) -> list[Any]:
        """Run against a service that is down for a while: each job is tried twice, and gives its error."""

        async def twice(number: Any) -> Any:
            try:
                return await func(number)
            except ConnectionError:
                return await func(number)

        return await self.ordered(caught(twice), inputs, 3)

    @by_hand
    async def stopped(self, func: Job, inputs: Sequence[Any]) -> list[Any]:
        """Run two at once, and let running jobs finish when a SIGTERM comes: by hand, a flag that each job checks."""
        stop = asyncio.Event()

        async def job(number: Any) -> Any:
            return None if stop.is_set() else await func(number)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        try:
            return [result for result in await self.limited(job, inputs, 2) if result is not None]
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    @by_hand
    async def threaded(self, func: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
        """Run a blocking function: by hand, in asyncio.to_thread."""

        async def job(number: Any) -> Any:
            return await asyncio.to_thread(func, number)

        return await self.ordered(job, inputs, len(inputs))

    @by_hand
    async def resumed(self, func: Job, inputs: Sequence[Any], path: Path) -> list[Any]:
        """Store results in a file, and skip inputs that have one: by hand, a line of JSON for each."""
        known = read_results(path)
        with path.open("a") as file:

            async def job(number: Any) -> Any:
                if number not in known:
                    known[number] = await func(number)
                    file.write(f"\n{json.dumps([number, known[number]])}")
                    file.flush()
                return known[number]

            return await self.ordered(job, inputs, 2)

    @by_hand
    async def given_up(self, func: Job, inputs: Sequence[Any], failures: int) -> Any:
        """Run three at once, and stop after this many failures: by hand, a counter that each job checks."""
        failed = 0

        async def job(number: Any) -> Any:
            nonlocal failed
            if failed >= failures:
                return None
            try:
                return await func(number)
            except ConnectionError as error:
                failed += 1
                return error

        return await self.limited(job, inputs, 3)

    shield = ""
    "What `protected` gives."

    def protected(self) -> AbstractContextManager[Any]:
        """Give what the library says to put around clean-up that awaits."""
        return nullcontext()


def read_results(path: Path) -> dict[Any, Any]:
    """Read what `Runner.resumed` has written."""
    known: dict[Any, Any] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError):  # an empty line, or one that the process was killed in
            known.update([json.loads(line)])
    return known


def caught(func: Job) -> Job:
    """Return a job that gives its error as its result: what a user writes where one error ends all."""

    async def job(number: Any) -> Any:
        try:
            return await func(number)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error
        except Exception as error:
            return error

    return job


class Aiosupervise(Runner):
    """Ours."""

    name = package = module = "aiosupervise"

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        return (await aiosupervise.map_all(func, inputs, limit=limit)).values()

    limited = ordered

    async def grouped(self, func: Job, inputs: Sequence[Any], limit: int, each: int) -> list[Any]:
        """Give each group a limit."""
        run = aiosupervise.map_all(func, inputs, limit=limit, group_by=lambda page: page[0], limit_per_group=each)
        return (await run).values()

    async def each(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        report = await aiosupervise.map_all(func, inputs, limit=limit)
        return [one.value if isinstance(one, aiosupervise.Success) else one.error for one in report]  # type: ignore[union-attr]

    @asynccontextmanager
    async def completed(self, func: Job, source: Source, limit: int) -> AsyncIterator[AsyncIterator[Any]]:
        async with aiosupervise.map_all(func, source, strategy="as_completed", limit=limit) as run:

            async def values() -> AsyncIterator[Any]:
                async for outcome in run:
                    assert isinstance(outcome, aiosupervise.Success)
                    yield outcome.value

            yield values()

    async def staged(self, first: Job, second: Job, source: Source) -> list[Any]:
        """Give the run of the first stage as the inputs of the second."""
        halves = aiosupervise.map_all(first, source, limit=2)
        return (await aiosupervise.map_all(second, halves, limit=2)).values()

    async def timed(self, func: Job, inputs: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
        report = await aiosupervise.map_all(func, inputs, timeout=seconds)
        return [one.value for one in report.succeeded], [one.input for one in report.pending]

    async def shown(self, func: Job, inputs: Sequence[Any]) -> str:
        with redirect_stderr(io.StringIO()) as drawn:
            await aiosupervise.map_all(func, inputs, progress=True)
        return drawn.getvalue()

    async def ridden_out(self, func: Job, inputs: Sequence[Any]) -> list[Any]:
        retried = aiosupervise.supervise(retry_on=ConnectionError, max_retries=1, backoff=[0])(func)
        overload = aiosupervise.Overload(aiosupervise.Budget(capacity=1), first_pause=0.02)
        return (await aiosupervise.map_all(retried, inputs, limit=3, overload=overload)).values()

    async def stopped(self, func: Job, inputs: Sequence[Any]) -> list[Any]:
        report = await aiosupervise.map_all(func, inputs, limit=2, stop_on=[signal.SIGTERM])
        return [one.value for one in report.succeeded]

    async def resumed(self, func: Job, inputs: Sequence[Any], path: Path) -> list[Any]:
        return (await aiosupervise.map_all(func, inputs, limit=2, journal=path)).values()

    async def given_up(self, func: Job, inputs: Sequence[Any], failures: int) -> Any:
        return await aiosupervise.map_all(func, inputs, limit=3, max_failures=failures - 1)


class Aiometer(Runner):
    """aiometer; its jobs are limited and paced by keywords."""

    name = package = module = "aiometer"

    def __init__(self) -> None:
        self.lib = import_module("aiometer")

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        return await self.lib.run_all([partial(func, number) for number in inputs], max_at_once=limit)  # type: ignore[no-any-return]

    limited = ordered

    def completed(self, func: Job, source: Source, limit: int) -> Any:
        return self.lib.amap(func, source, max_at_once=limit)

    async def paced(self, func: Job, inputs: Sequence[Any], seconds: float) -> Any:
        return await self.lib.run_on_each(func, inputs, max_per_second=1 / seconds)

    shield = "shielded CancelScope of anyio"

    def protected(self) -> AbstractContextManager[Any]:
        return import_module("anyio").CancelScope(shield=True)  # type: ignore[no-any-return]


class Tqdm(Runner):
    """tqdm.asyncio: asyncio's own gather and as_completed under a bar."""

    name = "tqdm.asyncio"
    package = "tqdm"
    module = "tqdm.asyncio"

    def __init__(self) -> None:
        self.lib = import_module("tqdm.asyncio").tqdm

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:  # noqa: ARG002
        return await self.lib.gather(*map(func, inputs), file=io.StringIO())  # type: ignore[no-any-return]

    async def each(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:  # noqa: ARG002
        return await self.lib.gather(*map(func, inputs), return_exceptions=True, file=io.StringIO())  # type: ignore[no-any-return]

    @asynccontextmanager
    async def completed(self, func: Job, source: Any, limit: int) -> AsyncIterator[AsyncIterator[Any]]:  # noqa: ARG002
        jobs = map(func, source)  # no generator, which asyncio.as_completed of 3.11 takes for a coroutine

        async def values() -> AsyncGenerator[Any]:
            for job in self.lib.as_completed(jobs, total=length_hint(source), file=io.StringIO()):
                yield await job

        async with aclosing(values()) as results:
            yield results

    @by_hand
    async def timed(self, func: Job, inputs: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
        tasks = [asyncio.ensure_future(func(number)) for number in inputs]
        done = []
        try:
            for task in self.lib.as_completed(tasks, timeout=seconds, file=io.StringIO()):
                done.append(await task)  # noqa: PERF401 - what came before the timeout is kept
        except TimeoutError:
            for one in tasks:
                one.cancel()
            await asyncio.wait(tasks)
        return done, [number for number in inputs if number not in done]

    async def shown(self, func: Job, inputs: Sequence[Any]) -> str:
        drawn = io.StringIO()
        await self.lib.gather(*map(func, inputs), file=drawn)
        return drawn.getvalue()


class Anyio(Runner):
    """anyio: amap and as_completed, which run in a task group."""

    name = package = module = "anyio"

    def __init__(self) -> None:
        self.lib = import_module("anyio")

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:  # noqa: ARG002
        return await self.lib.amap(func, inputs)  # type: ignore[no-any-return]

    @by_hand
    async def limited(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        limiter = self.lib.CapacityLimiter(limit)

        async def job(number: Any) -> Any:
            async with limiter:
                return await func(number)

        return await self.ordered(job, inputs, limit)

    @asynccontextmanager
    async def completed(self, func: Job, source: Any, limit: int) -> AsyncIterator[AsyncIterator[Any]]:  # noqa: ARG002
        async with self.lib.as_completed(*map(func, source)) as handles:

            async def values() -> AsyncIterator[Any]:
                async for handle in handles:
                    yield handle.return_value

            yield values()

    async def threaded(self, func: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
        return await self.ordered(partial(self.lib.to_thread.run_sync, func), inputs, len(inputs))

    shield = "shielded CancelScope"

    def protected(self) -> AbstractContextManager[Any]:
        return self.lib.CancelScope(shield=True)  # type: ignore[no-any-return]


class Aiotools(Runner):
    """aiotools: gather_safe and as_completed_safe."""

    name = package = module = "aiotools"

    def __init__(self) -> None:
        self.lib = import_module("aiotools")

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:  # noqa: ARG002
        return await self.lib.gather_safe([func(number) for number in inputs])  # type: ignore[no-any-return]

    @asynccontextmanager
    async def completed(self, func: Job, source: Any, limit: int) -> AsyncIterator[AsyncIterator[Any]]:  # noqa: ARG002
        async with aclosing(self.lib.as_completed_safe(func(number) for number in source)) as tasks:

            async def values() -> AsyncIterator[Any]:
                async for task in tasks:
                    yield await task

            yield values()

    shield = "ShieldScope"

    def protected(self) -> AbstractContextManager[Any]:
        return self.lib.ShieldScope()  # type: ignore[no-any-return]


class Aiostream(Runner):
    """aiostream: stream.map with a task_limit."""

    name = package = module = "aiostream"

    def __init__(self) -> None:
        self.stream = import_module("aiostream").stream

    def _mapped(self, func: Job, source: Source, *, limit: int, ordered: bool) -> Any:
        async def job(number: Any, *_: Any) -> Any:
            return await func(number)

        return self.stream.map(self.stream.iterate(source), job, ordered=ordered, task_limit=limit)

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        return await self.stream.list(self._mapped(func, inputs, limit=limit, ordered=True))  # type: ignore[no-any-return]

    limited = ordered

    def completed(self, func: Job, source: Source, limit: int) -> Any:
        return self._mapped(func, source, limit=limit, ordered=False).stream()

    async def paced(self, func: Job, inputs: Sequence[Any], seconds: float) -> Any:
        return await self.ordered(func, self.stream.spaceout(self.stream.iterate(inputs), seconds), 100)

    async def staged(self, first: Job, second: Job, source: Source) -> list[Any]:
        halves = self._mapped(first, source, limit=2, ordered=False)
        return await self.stream.list(self._mapped(second, halves, limit=2, ordered=False))  # type: ignore[no-any-return]


class Streamable(Runner):
    """streamable: map with concurrency; the iteration can go on after an error, or catch it."""

    name = package = module = "streamable"

    def __init__(self) -> None:
        self.stream = import_module("streamable").stream

    def _mapped(self, func: Job, source: Source, *, limit: int, ordered: bool) -> Any:
        async def job(number: Any) -> Any:
            return await func(number)

        return self.stream(source).map(job, concurrency=limit, as_completed=not ordered)

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        return [result async for result in self._mapped(func, inputs, limit=limit, ordered=True)]

    limited = ordered

    async def each(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        mapped = self._mapped(func, inputs, limit=limit, ordered=True)
        return [result async for result in mapped.catch(Exception, replace=lambda error: error)]

    @asynccontextmanager
    async def completed(self, func: Job, source: Source, limit: int) -> AsyncIterator[AsyncIterator[Any]]:
        yield aiter(self._mapped(func, source, limit=limit, ordered=False))

    async def paced(self, func: Job, inputs: Sequence[Any], seconds: float) -> Any:
        source = self.stream(inputs).throttle(1, per=dt.timedelta(seconds=seconds))
        return await self.ordered(func, source, 100)

    async def staged(self, first: Job, second: Job, source: Source) -> list[Any]:
        return await self.ordered(second, self._mapped(first, source, limit=2, ordered=False), 2)

    @by_hand
    async def timed(self, func: Job, inputs: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
        when = asyncio.get_running_loop().time() + seconds

        async def job(number: Any) -> Any:
            async with asyncio.timeout_at(when):
                return await func(number)

        results = await self.each(job, inputs, len(inputs))
        done = [result for result in results if not isinstance(result, TimeoutError)]
        return done, [number for number in inputs if number not in done]

    async def shown(self, func: Job, inputs: Sequence[Any]) -> str:
        observed: list[Any] = []
        mapped = self._mapped(func, inputs, limit=len(inputs), ordered=False)
        async for _ in mapped.observe("jobs", every=1, do=observed.append):
            pass
        return f"{observed[-1].elements}/{len(inputs)}"

    async def threaded(self, func: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
        return [result async for result in self.stream(inputs).map(func, concurrency=len(inputs))]


class Pyarallel(Runner):
    """pyarallel: async_parallel_map and async_parallel_iter, and parallel_map for threads."""

    name = package = module = "pyarallel"

    def __init__(self) -> None:
        self.lib = import_module("pyarallel")

    async def ordered(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        return (await self.lib.async_parallel_map(func, inputs, concurrency=limit)).values()  # type: ignore[no-any-return]

    limited = ordered

    async def each(self, func: Job, inputs: Sequence[Any], limit: int) -> list[Any]:
        results = await self.lib.async_parallel_map(func, inputs, concurrency=limit)
        return [one.value if one.ok else one.error for one in results.item_results()]

    @asynccontextmanager
    async def completed(self, func: Job, source: Source, limit: int) -> AsyncIterator[AsyncIterator[Any]]:
        async with aclosing(self.lib.async_parallel_iter(func, source, concurrency=limit)) as results:

            async def values() -> AsyncIterator[Any]:
                async for result in results:
                    yield result.value

            yield values()

    async def paced(self, func: Job, inputs: Sequence[Any], seconds: float) -> Any:
        return await self.lib.async_parallel_map(func, inputs, rate_limit=self.lib.RateLimit(1 / seconds, burst=1))

    async def timed(self, func: Job, inputs: Sequence[Any], seconds: float) -> tuple[list[Any], list[Any]]:
        results = await self.lib.async_parallel_map(func, inputs, concurrency=len(inputs), timeout=seconds)
        return results.ok_values(), [inputs[index] for index, _ in results.failures()]

    async def shown(self, func: Job, inputs: Sequence[Any]) -> str:
        shown: list[str] = []
        await self.lib.async_parallel_map(func, inputs, on_progress=lambda done, of: shown.append(f"{done}/{of}"))
        return shown[-1]

    async def threaded(self, func: Callable[[Any], Any], inputs: Sequence[Any]) -> list[Any]:
        return self.lib.parallel_map(func, inputs, workers=len(inputs)).values()  # type: ignore[no-any-return]

    async def resumed(self, func: Job, inputs: Sequence[Any], path: Path) -> list[Any]:
        results = await self.lib.async_parallel_map(func, inputs, concurrency=2, checkpoint=path, checkpoint_key=str)
        return results.values()  # type: ignore[no-any-return]

    async def given_up(self, func: Job, inputs: Sequence[Any], failures: int) -> Any:
        return await self.lib.async_parallel_map(func, inputs, concurrency=3, max_errors=failures)


STREAMS: tuple[type[Runner], ...] = (Aiostream, Streamable)
RUNNERS: tuple[type[Runner], ...] = (Aiosupervise, Aiometer, Tqdm, Anyio, Aiotools, Pyarallel, *STREAMS)
