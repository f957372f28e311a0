"""`run_all` and `map_all`: check the arguments, then create the run."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from aiosupervise._call.signals import checked_signals
from aiosupervise._events.listeners import Listener
from aiosupervise._policy.checks import name_of

from ._groups.engine import GroupedEngine
from ._groups.settings import checked_groups
from ._journal.journal import Journal, checked_journal
from ._stages.earlier_run import own
from ._stages.settings import check_journals, group_by_value, inputs_in_memory
from ._stages.source import StageSource
from .arguments import check_engine, check_func, check_iterable, check_settings, source_of
from .config import RunConfig
from .jobs import GivenJobs, Job, MappedJobs, run_job
from .local import LocalEngine
from .misuse import guarded
from .overload import Adaptive, Overload
from .progress import BarOptions, Progress
from .protocol import Engine, EngineConfig
from .run import Run
from .source import Source
from .strategies import ReturnWhen, Strategy, StrategyName, strategy_named

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the input of map_all
G = TypeVar("G", bound=Hashable)
V = TypeVar("V")  # the values of an earlier stage


def run_all(
    jobs: Iterable[Job[T]] | AsyncIterable[Job[T]],
    *,
    strategy: StrategyName = "gather",
    limit: int | Adaptive | None = 100,
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    progress: bool | BarOptions = False,
    overload: Overload | None = Overload(),  # noqa: B008 - frozen
    max_failures: int | None = None,
    total: int | None = None,
    listen: Listener | None = None,
    stop_on: Collection[signal.Signals | int] = (),
    name: str | None = None,
) -> Run[T]:
    """Run jobs concurrently within a limit, and report one outcome for each.

    `report = await run_all(jobs)` returns all outcomes. `async with run_all(jobs) as run: async for outcome in run`
    delivers each outcome as it becomes available, without keeping it. The outcome of a job that fails is a `Failure`;
    the other jobs are not affected.

    Args:
        jobs: any iterable or async iterable, possibly endless, of coroutines, other awaitables, or functions without
            arguments that return an awaitable. A job is pulled only when a slot is free for it. Jobs start in input
            order.
        strategy: "gather" for outcomes in input order; "as_completed" for completion order; "wait" for completion order
            with pending jobs last, where `return_when` determines when the run ends. If a run ends early, unfinished
            jobs are `Pending`.
        limit: the maximum number of concurrent jobs; None for no limit, `Adaptive()` for a limit that adapts to the
            service. The default is the connection limit of aiohttp and httpx.
        timeout: the maximum duration of the run in seconds, after which unfinished jobs are `Pending`; None for no
            limit.
        return_when: "ALL_COMPLETED", "FIRST_COMPLETED" or "FIRST_EXCEPTION", as for asyncio.wait.
        progress: True for a tqdm progress bar in a terminal or notebook, or a dict of tqdm's keywords for its
            appearance, such as `{"leave": False}`.
        overload: how the run reacts when the service behind its supervised calls is overloaded; by default it pauses.
            None for no protection.
        max_failures: stop the run, like `Run.stop`, when more jobs than this have failed; None for no limit.
        total: the number of jobs, for the progress bar and the tally, if the source has no length; None if unknown.
        listen: a function called with each `Event` of this run and of the calls in it; None for no listener. See
            `aiosupervise.listen`.
        stop_on: signals, such as `(signal.SIGINT, signal.SIGTERM)`. The first one stops the run like `Run.stop`, and
            the second one cancels the running jobs; then the previous handlers are restored. The run ends as usual, and
            `Run.stopped_by` is the first signal. This works only in the main thread.
        name: the name of the run, its tasks and its progress bar; None to name each job after its function.

    Raises:
        TypeError, ValueError: immediately, for an invalid argument; coroutines passed in a list are closed.
        RuntimeError: if `stop_on` is used outside the main thread, or names a signal whose handler could not be
            restored.
        ImportError: if `progress` is requested and tqdm is not installed.
    """
    check_iterable("jobs", jobs)
    check_settings(limit, timeout, progress, overload, max_failures, listen, name)
    order: Strategy[T, None] = strategy_named(strategy, return_when)
    source: Source[object] = source_of(jobs, total)
    given: GivenJobs[T] = GivenJobs(name)
    name = name or "run_all"
    for_engine: EngineConfig[T, Any] = EngineConfig(run_job, name, limit, overload)
    return Run(
        RunConfig(source, given, order, timeout, max_failures, listen, LocalEngine(given), for_engine, None),
        _progress_bar(progress, name),
        checked_signals(stop_on),
    )


@overload
def map_all(
    func: Callable[[V], Awaitable[T]],
    inputs: Run[V, I],
    *,
    strategy: StrategyName = ...,
    limit: int | Adaptive | None = ...,
    timeout: float | None = ...,
    return_when: ReturnWhen = ...,
    progress: bool | BarOptions = ...,
    overload: Overload | None = ...,
    max_failures: int | None = ...,
    total: int | None = ...,
    listen: Listener | None = ...,
    stop_on: Collection[signal.Signals | int] = ...,
    name: str | None = ...,
    journal: Journal | str | os.PathLike[str] | None = ...,
    group_by: Callable[[V], G] | None = ...,
    limit_per_group: int | Callable[[G], int | None] | None = ...,
    engine: Engine | None = ...,
) -> Run[T, I]: ...
@overload
def map_all(
    func: Callable[[I], Awaitable[T]],
    inputs: Iterable[I] | AsyncIterable[I],
    *,
    strategy: StrategyName = ...,
    limit: int | Adaptive | None = ...,
    timeout: float | None = ...,
    return_when: ReturnWhen = ...,
    progress: bool | BarOptions = ...,
    overload: Overload | None = ...,
    max_failures: int | None = ...,
    total: int | None = ...,
    listen: Listener | None = ...,
    stop_on: Collection[signal.Signals | int] = ...,
    name: str | None = ...,
    journal: Journal | str | os.PathLike[str] | None = ...,
    group_by: Callable[[I], G] | None = ...,
    limit_per_group: int | Callable[[G], int | None] | None = ...,
    engine: Engine | None = ...,
) -> Run[T, I]: ...
def map_all(
    func: Callable[[Any], Awaitable[T]],
    inputs: Iterable[Any] | AsyncIterable[Any] | Run[Any, I],
    *,
    strategy: StrategyName = "gather",
    limit: int | Adaptive | None = 100,
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    progress: bool | BarOptions = False,
    overload: Overload | None = Overload(),  # noqa: B008 - frozen
    max_failures: int | None = None,
    total: int | None = None,
    listen: Listener | None = None,
    stop_on: Collection[signal.Signals | int] = (),
    name: str | None = None,
    journal: Journal | str | os.PathLike[str] | None = None,
    group_by: Callable[[Any], Hashable] | None = None,
    limit_per_group: int | Callable[[Any], int | None] | None = None,
    engine: Engine | None = None,
) -> Run[T, I]:
    """Call an async function with each input, under the same rules as `run_all`; each outcome has its `input`.

    The inputs may be another run that has not started, such as `map_all(fetch, urls)`: its values are the inputs of
    this stage. Its failures and pending jobs are passed on, so each input of the first stage has exactly one outcome in
    the last stage.

    Args:
        func: an async function of one argument, supervised or not; bind further arguments with functools.partial.
        inputs: any iterable or async iterable, possibly endless, or a `Run` that has not started. An input is pulled
            only when a slot is free for it.
        strategy: as for `run_all`, which describes the common keywords in detail.
        limit: the maximum number of concurrent calls; None for no limit, `Adaptive()` for a limit that adapts to the
            service.
        timeout: the maximum duration of the run in seconds; None for no limit.
        return_when: as for asyncio.wait.
        progress: True for a tqdm progress bar, or a dict of tqdm's keywords for its appearance.
        overload: how the run reacts when the service is overloaded; None for no protection.
        max_failures: stop the run when more jobs than this have failed; None for no limit.
        total: the number of inputs, if the source has no length; None if unknown.
        listen: a function called with each `Event` of this run and of the calls in it; None for no listener.
        stop_on: signals that stop the run, and cancel the running jobs when received a second time.
        name: the name of the run, its tasks and its progress bar; None for the function's name.
        journal: the path of a file that stores the results, or a `Journal`. When the run is repeated, even after a
            crash, the function is not called for inputs with a stored result. None for no journal.
        group_by: a function that returns the group of an input, such as the host of a URL. The group can be any
            hashable object; it appears in the log. Each group has its own retry budget, circuit breaker and pauses.
            While the group of an input may not start jobs, later inputs of other groups start first. None if all inputs
            use a single service.
        limit_per_group: the maximum number of concurrent calls per group, or a function that returns it for a group;
            None to apply only the limit of the run.
        engine: where the calls run: None for this process and event loop, `aiosupervise.integrations.dask.DaskEngine`
            for a cluster, or your own engine (`aiosupervise.engines`).

    Raises:
        TypeError, ValueError: immediately, for an invalid argument, such as a function that is not async.
        RuntimeError: if `stop_on` is used outside the main thread, or names a signal whose handler could not be
            restored.
        ImportError: if `progress` is requested and tqdm is not installed.
    """
    check_func(func)
    check_iterable("inputs", inputs)
    check_settings(limit, timeout, progress, overload, max_failures, listen, name)
    order: Strategy[T, I] = strategy_named(strategy, return_when)
    source: Source[object] = source_of(inputs, total)
    kept = checked_journal(journal, func, name, () if journal is None else inputs_in_memory(source))
    name = name or name_of(func)
    groups = checked_groups(group_by, limit_per_group, limit, overload, engine)
    if isinstance(source, StageSource):
        check_journals(kept, name, source)
        groups = group_by_value(groups)
    mapped = MappedJobs(func, name)
    if engine is None:
        engine = LocalEngine(mapped) if groups is None else GroupedEngine(mapped, groups)
    check_engine(engine)
    engine.check(func, source.items_in_memory())
    bar, signals = _progress_bar(progress, name), checked_signals(stop_on)
    if isinstance(inputs, Run):
        own(inputs, name)
    for_engine: EngineConfig[T, Any] = EngineConfig(func, name, limit, overload)
    config = RunConfig(source, mapped, order, timeout, max_failures, listen, engine, for_engine, kept, groups)
    return Run(config, bar, signals)


def _progress_bar(progress: bool | BarOptions, name: str) -> Progress | None:  # noqa: FBT001 - the user's argument
    if progress is False:
        return None
    from aiosupervise.integrations.tqdm import ProgressBar  # noqa: PLC0415 - an optional dependency

    return ProgressBar(name, None if progress is True else progress)


# The wrapping is hidden from type checkers, so that the functions have exactly the types that they declare. A decorator
# would have the same effect, but mutation testing skips decorated functions.
if not TYPE_CHECKING:  # pragma: no branch
    run_all, map_all = guarded(run_all), guarded(map_all)
