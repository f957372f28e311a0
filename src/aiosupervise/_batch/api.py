"""`run_all` and `map_all`: check the arguments, then make the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from aiosupervise._checks import check_count, check_name, check_seconds, is_async_callable, name_of

from .engine import Plan
from .jobs import Job, discard
from .overload import Adaptive, Overload
from .run import Run
from .source import HELD, AsyncSource, Source, SyncSource
from .strategies import ReturnWhen, StrategyName, strategy_named

if TYPE_CHECKING:
    from .progress import Progress

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the input of map_all


def run_all(
    jobs: Iterable[Job[T]] | AsyncIterable[Job[T]],
    *,
    strategy: StrategyName = "gather",
    limit: int | Adaptive | None = 100,
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    progress: bool = False,
    overload: Overload | None = Overload(),  # noqa: B008 - frozen
    name: str | None = None,
) -> Run[T]:
    """Run many jobs at once, within a limit, and get one outcome for each.

    `report = await run_all(jobs)` gives all outcomes; `async with run_all(jobs) as run: async for outcome in run`
    gives each as it comes and keeps none. A job that fails is a `Failure` and harms no other job.

    Args:
        jobs: any iterable or async iterable, endless ones too, of coroutines, other awaitables, or functions without
            arguments that return one. A job is pulled only when there is a place for it, and jobs start in input order.
        strategy: "gather": outcomes in input order; "as_completed": in completion order; "wait": in completion order,
            pending last, and `return_when` says when the run ends. What an early end came before is `Pending`.
        limit: how many jobs run at once; None for no limit, `Adaptive()` for one that finds itself. The default is the
            connection limit of aiohttp and httpx.
        timeout: seconds for the whole run; what has not finished then becomes `Pending`. None for no limit.
        return_when: "ALL_COMPLETED", "FIRST_COMPLETED" or "FIRST_EXCEPTION", as for asyncio.wait.
        progress: show a tqdm bar, in a terminal or a notebook.
        overload: what the run does when the service behind its supervised calls is in trouble: by default it pauses;
            None for nothing.
        name: what tasks and the bar are called; None for the name of each job's function.

    Raises:
        TypeError, ValueError: at once, for an argument that makes no sense; the coroutines in a list are closed.
        ImportError: if `progress` is asked for and tqdm is not installed.

    """
    try:
        _check_iterable("jobs", jobs)
        return Run(
            Plan(_source(jobs), None, strategy_named(strategy, return_when), *_checked(limit, timeout, overload, name)),
            _progress_bar(name or "run_all") if progress else None,
        )
    except BaseException:
        for job in jobs if isinstance(jobs, HELD) else [jobs]:
            discard(job)
        raise


def map_all(
    func: Callable[[I], Awaitable[T]],
    inputs: Iterable[I] | AsyncIterable[I],
    *,
    strategy: StrategyName = "gather",
    limit: int | Adaptive | None = 100,
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    progress: bool = False,
    overload: Overload | None = Overload(),  # noqa: B008 - frozen
    name: str | None = None,
) -> Run[T, I]:
    """Call an async function with each input, as `run_all` would; each outcome carries its `input`.

    Args:
        func: an async function of one argument, supervised or not; functools.partial binds further ones.
        inputs: any iterable or async iterable, endless ones too. An input is pulled only when there is a place for it.
        strategy: as for `run_all`, and so are the other keywords.
        limit: how many calls run at once; None for no limit, `Adaptive()` for one that finds itself.
        timeout: seconds for the whole run; None for no limit.
        return_when: as for asyncio.wait.
        progress: show a tqdm bar.
        overload: what the run does when the service is in trouble; None for nothing.
        name: what tasks and the bar are called; None for the function's name.

    Raises:
        TypeError, ValueError: at once, for an argument that makes no sense, such as a function that is not async.
        ImportError: if `progress` is asked for and tqdm is not installed.

    """
    if not is_async_callable(func):
        discard(func)
        title = name_of(func) if callable(func) else repr(func)
        raise TypeError(f"func must be an async function of one argument; {title} is not: write `async def`")
    _check_iterable("inputs", inputs)
    name = name or name_of(func)
    return Run(
        Plan(_source(inputs), func, strategy_named(strategy, return_when), *_checked(limit, timeout, overload, name)),
        _progress_bar(name) if progress else None,
    )


def _check_iterable(name: str, items: object) -> None:
    if isinstance(items, asyncio.Future) or not isinstance(items, (Iterable, AsyncIterable)):
        raise TypeError(f"{name} must be an iterable or an async iterable; got {items!r}: put it into a list")


def _checked(
    limit: int | Adaptive | None, timeout: float | None, overload: Overload | None, name: str | None
) -> tuple[int | Adaptive | None, float | None, Overload | None, str | None]:
    if not isinstance(limit, Adaptive):
        check_count("limit", limit, least=1)
    check_seconds("timeout", timeout, zero=True, none="no limit")
    if overload is not None and not isinstance(overload, Overload):
        raise TypeError(f"overload must be an Overload(...), or None for no protection; got {overload!r}")
    check_name(name)
    return limit, timeout, overload, name


def _source(items: Iterable[T] | AsyncIterable[T]) -> Source[T]:
    return AsyncSource(items) if isinstance(items, AsyncIterable) else SyncSource(items)


def _progress_bar(name: str) -> Progress:
    from aiosupervise.integrations.tqdm import ProgressBar  # noqa: PLC0415 - an extra, needed only here

    return ProgressBar(name)
