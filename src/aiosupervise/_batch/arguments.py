"""Checks and converts the arguments of `run_all` and `map_all`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Iterable
from typing import TypeVar

from aiosupervise._events.listeners import check_listener
from aiosupervise._policy.checks import (
    IF_IT_BLOCKS,
    check_count,
    check_name,
    check_seconds,
    is_async_callable,
    kind_of,
    name_of,
    safe_repr,
)

from ._stages.earlier_run import stage_source
from .overload import Adaptive, Overload
from .progress import check_progress
from .run import Run
from .source import AsyncSource, Source, SyncSource

_READ_QUEUE = """\
async def items():
    while (item := await {get}) is not None:  # whoever fills the queue puts None at the end
        yield item
map_all(func, items())"""

T = TypeVar("T")


def check_func(func: object) -> None:
    """Raise an error unless `func` is an async function."""
    if not is_async_callable(func):
        title = name_of(func) if callable(func) else kind_of(func)
        rule = "func must be an async function of one argument, or a functools.partial of one"
        repair = f"; {IF_IT_BLOCKS}" if callable(func) else ""
        raise TypeError(f"{rule}; {title} is not: write `async def`{repair}")


def check_iterable(name: str, items: object) -> None:
    """Raise an error unless `items` is a source of items; also reject a str and other types passed by mistake."""
    if name == "jobs" and isinstance(items, Run):
        raise TypeError(
            f"jobs must be an iterable of jobs, and a run is one job; got {items!r}: write run_all([run]), or "
            f"map_all(func, run) to call a function with its values"
        )
    if isinstance(items, (str, bytes)):
        raise TypeError(
            f"{name} must be an iterable of {name}, not of letters; got {kind_of(items)}: put it into a list"
        )
    if isinstance(items, asyncio.Future) or not isinstance(items, (Iterable, AsyncIterable)):
        raise TypeError(f"{name} must be an iterable or an async iterable; {_repair(items)}")


def _repair(items: object) -> str:
    """Return what was given in place of a source, and what to write."""
    get = getattr(type(items), "get", None)
    if get is not None and hasattr(type(items), "put"):
        get = "queue.get()" if inspect.iscoroutinefunction(get) else "asyncio.to_thread(queue.get)"
        return f"a queue is read like this:\n{_READ_QUEUE.format(get=get)}"
    if inspect.isgeneratorfunction(items) or inspect.isasyncgenfunction(items):
        return f"got the generator function {name_of(items)}: call it, {name_of(items)}()"
    return f"got {kind_of(items)}: put it into a list"


def check_settings(
    limit: object,
    timeout: object,
    progress: object,
    overload: object,
    max_failures: object,
    listen: object,
    name: object,
) -> None:
    """Check the settings that both functions accept."""
    if not isinstance(limit, Adaptive):
        check_count("limit", limit, least=1)
    check_seconds("timeout", timeout, zero=True, none="no limit")
    check_progress(progress)
    if overload is not None and not isinstance(overload, Overload):
        raise TypeError(f"overload must be an Overload(...), or None for no protection; got {safe_repr(overload)}")
    check_count("max_failures", max_failures, least=0)
    if listen is not None:
        check_listener("listen", listen)
    check_name(name)


def check_engine(engine: object) -> None:
    """Raise an error unless `engine` is an engine."""
    if isinstance(engine, type) or not (hasattr(engine, "check") and hasattr(engine, "start")):
        raise TypeError(f"engine must be None, or an engine such as DaskEngine(client); got {safe_repr(engine)}")


def source_of(items: Iterable[T] | AsyncIterable[T], total: int | None) -> Source[T]:
    """Return the source of a run. If the items are an earlier run, the source supplies its outcomes."""
    check_count("total", total, least=0, none="an unknown number")
    if isinstance(items, Run):
        if total is not None:
            raise ValueError(
                "total is for the first of several stages, as each of its jobs has one outcome: write it there"
            )
        return stage_source(items)
    source: Source[T] = AsyncSource(items) if isinstance(items, AsyncIterable) else SyncSource(items)
    if total is not None:
        if source.total is not None:
            raise ValueError(f"total is for a source without a length; this one has {source.total}: leave it out")
        source.total = total
    return source
