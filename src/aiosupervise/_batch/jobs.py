"""What a job is: a coroutine, any other awaitable, or a function without arguments that returns one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TypeAlias, TypeVar

from aiosupervise._policy.checks import name_of

T = TypeVar("T")
Job: TypeAlias = Awaitable[T] | Callable[[], Awaitable[T]]

RULE = "a job must be a coroutine, a future, or a function without arguments that returns one"


def coroutine_of(job: Job[T], index: int) -> Coroutine[object, None, T]:
    """Return the coroutine that a task can run for this job.

    Raises:
        TypeError: if it is no job at all, or a coroutine that has run before.

    """
    if isinstance(job, CoroutineType):
        if job.cr_frame is None:
            raise used_twice(job, index)
        return job
    if inspect.isawaitable(job):
        return _await(job)
    if callable(job):
        return _call(job, index)
    raise TypeError(f"{RULE}; job {index} is {job!r}")


def used_twice(job: object, index: int) -> TypeError:
    """Make the error for a coroutine object that comes again."""
    name = name_of(job)
    return TypeError(f"job {index} is a coroutine of {name} that was given before, and it runs once: call {name} again")


def discard(item: object) -> None:
    """Close a job that will not start."""
    if inspect.iscoroutine(item):
        item.close()


def rerun(job: Job[T]) -> Callable[[], Awaitable[T]] | None:
    """Return the job if it can be run again."""
    return None if inspect.isawaitable(job) or not callable(job) else job


async def _await(job: Awaitable[T]) -> T:
    return await job


async def _call(job: Callable[[], Awaitable[T]], index: int) -> T:
    try:
        made = job()
    except Exception as error:
        _explain(error, job, index)
        raise
    if not inspect.isawaitable(made):
        raise TypeError(f"{RULE}; job {index}, {name_of(job)}, returned {made!r}")
    return await made


def _explain(error: Exception, job: object, index: int) -> None:
    """Say what was expected, when calling a job raised instead of giving an awaitable."""
    traceback = error.__traceback__
    name = name_of(job)
    if isinstance(error, TypeError) and traceback is not None and traceback.tb_next is None:
        # Nothing was entered: the call itself does not fit.
        repair = (
            f"run_all calls it without arguments, map_all with one input: bind others, functools.partial({name}, ...)"
        )
        error.args = (f"{RULE}; job {index} cannot be called as it is: {error}; {repair}",)
    else:
        error.add_note(f"raised by calling job {index}, {name}; {RULE}")
