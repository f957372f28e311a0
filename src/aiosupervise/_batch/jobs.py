"""The forms of a job: a coroutine, any other awaitable, or a function without arguments that returns an awaitable.

The items of `run_all` are jobs themselves (`GivenJobs`); `map_all` creates a job from each input (`MappedJobs`).
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import CoroutineType, FunctionType
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

from aiosupervise._events.outcomes import I, Pending
from aiosupervise._policy.checks import kind_of, name_of
from aiosupervise._policy.raw import traceback_of

T = TypeVar("T")
Job: TypeAlias = Awaitable[T] | Callable[[], Awaitable[T]]

RULE = "a job must be a coroutine, a future, or a function without arguments that returns one"


class Jobs(ABC, Generic[T, I]):
    """Converts the items of a source to jobs and outcomes.

    An item may be a proxy that raises an error when its type or name is read. Even then, the methods that are used at
    the end of a run (`name`, `pending` and the predicates) return a value.

    Attributes:
        have_inputs: True if the items are inputs, which are part of their outcomes.
        name_prefix: the run's name and a hyphen, which precede the index in a job's name; empty if the run has no name.
    """

    have_inputs: ClassVar[bool]

    def __init__(self, name: str | None) -> None:
        self.name_prefix: str = f"{name}-" if name else ""

    @abstractmethod
    def coroutine(self, item: Any, index: int) -> Coroutine[object, None, T]:
        """Return the coroutine that a task runs for this item.

        Raises:
            TypeError: if the item is not a job, or is a coroutine that has already run.

        """
        ...

    @abstractmethod
    def name(self, item: Any, index: int) -> str:
        """Return the name of the job of this item."""
        ...

    @abstractmethod
    def pending(self, item: Any, index: int, *, started: bool) -> Pending[T, I]:
        """Create the outcome of a job that was unfinished when the run ended."""
        ...

    @abstractmethod
    def discard(self, item: Any) -> None:
        """Release the resources of an item whose job will not start."""
        ...

    @abstractmethod
    def is_task(self, item: Any) -> bool:
        """Return whether the item is a job that is already running."""
        ...

    @abstractmethod
    def future(self, item: Any) -> asyncio.Future[Any] | None:
        """Return the item if it is a job in the form of a future, otherwise None."""
        ...

    @abstractmethod
    def given(self, item: Any) -> CoroutineType[Any, Any, Any] | None:
        """Return the item if it is a job in the form of a coroutine, otherwise None."""
        ...


class GivenJobs(Jobs[T, None]):
    """The items of `run_all`: each of them is a job."""

    have_inputs = False

    def coroutine(self, item: Any, index: int) -> Coroutine[object, None, T]:
        """Return the job if it is a coroutine, otherwise a coroutine that awaits the job or the result of its call."""
        if type(item) is CoroutineType and item.cr_frame is not None:
            return item
        return coroutine_of(item, index)

    def name(self, item: Any, index: int) -> str:
        """Return a name derived from the run's name or, if the run has none, from the job's name."""
        if self.name_prefix:
            return f"{self.name_prefix}{index}"
        if type(item) is CoroutineType:
            return f"{item.__name__}-{index}"
        try:
            return f"{getattr(item, '__name__', None) or name_of(item)}-{index}"
        except Exception:
            return f"{type(item).__name__}-{index}"

    def pending(self, item: Any, index: int, *, started: bool) -> Pending[T, None]:
        """Create the outcome, which holds the job if the job can be run again."""
        try:
            again = None if inspect.isawaitable(item) or not callable(item) else item
        except Exception:
            again = item if callable(item) else None
        return Pending(index, again, started, self.name(item, index))

    def discard(self, item: Any) -> None:
        """Close a coroutine, because Python would otherwise warn that it was never awaited."""
        discard(item)

    def is_task(self, item: Any) -> bool:
        """Return whether the job is an asyncio task."""
        return _is_a(asyncio.Task, item)

    def future(self, item: Any) -> asyncio.Future[Any] | None:
        """Return the job, if it is an asyncio future or task."""
        return item if _is_a(asyncio.Future, item) else None

    def given(self, item: Any) -> CoroutineType[Any, Any, Any] | None:
        """Return the job, if it is a coroutine."""
        return item if _is_a(CoroutineType, item) else None


class MappedJobs(Jobs[T, I]):
    """The items of `map_all`: each job calls the function with one of them."""

    have_inputs = True

    def __init__(self, func: Callable[[I], Awaitable[T]], name: str) -> None:
        super().__init__(name)
        self._func = func
        self._is_async_function = type(func) is FunctionType and bool(func.__code__.co_flags & inspect.CO_COROUTINE)

    def coroutine(self, item: Any, index: int) -> Coroutine[object, None, T]:
        """Return the coroutine of an async function; for any other callable, a coroutine that calls it."""
        if self._is_async_function:
            try:
                return self._func(item)  # type: ignore[return-value]  # known from its code
            except TypeError:
                # If the parameters do not match, the job will raise the error, with an explanation.
                pass
        return _call(partial(self._func, item), index)

    def name(self, item: Any, index: int) -> str:  # noqa: ARG002 - as for given jobs, which have names of their own
        """Return a name derived from the run's name."""
        return f"{self.name_prefix}{index}"

    def pending(self, item: Any, index: int, *, started: bool) -> Pending[T, I]:
        """Create the outcome, which holds a function that repeats the call."""
        return Pending(index, partial(self._func, item), started, f"{self.name_prefix}{index}", item)

    def discard(self, item: Any) -> None:
        """Do nothing: an input belongs to the user."""

    def is_task(self, item: Any) -> bool:  # noqa: ARG002 - as above
        """Return False: an input that is a task is not a job."""
        return False

    def future(self, item: Any) -> None:
        """Return None: an input that is a future is not a job."""

    def given(self, item: Any) -> None:
        """Return None: an input that is a coroutine is not a job."""


def coroutine_of(job: Job[T], index: int) -> Coroutine[object, None, T]:
    """Return the coroutine that a task runs for this job.

    Raises:
        TypeError: if the object is not a job, or is a coroutine that has already run.
        Exception: any error that a future raises when it is asked for its loop.

    """
    if isinstance(job, CoroutineType):
        if job.cr_frame is None:
            raise used_twice(job, index)
        return job
    if inspect.isawaitable(job):
        if isinstance(job, asyncio.Future):
            # A task that awaits a future whose method raises can be neither stepped nor cancelled.
            job.get_loop()
        return _await(job)
    if callable(job):
        return _call(job, index)
    raise TypeError(f"{RULE}; job {index} is {kind_of(job)}")


def used_twice(job: object, index: int) -> TypeError:
    """Return the error for a coroutine object that was passed a second time."""
    name = name_of(job)
    return TypeError(f"job {index} is a coroutine of {name} that was given before, and it runs once: call {name} again")


def discard(item: object) -> None:
    """Close a job that will not start, if it is a coroutine or a run."""
    if _is_a(Coroutine, item):
        item.close()  # type: ignore[attr-defined]


def _is_a(kind: type, item: object) -> bool:
    try:
        return isinstance(item, kind)
    except Exception:
        # `__class__` of a proxy is a property, which may raise any error.
        return False


async def run_job(job: Job[T]) -> T:
    """Run a job; this is the function that `run_all` calls with each item, since its items are jobs themselves."""
    return await (job if inspect.isawaitable(job) else job())


async def _await(job: Awaitable[T]) -> T:
    return await job


async def _call(job: Callable[[], Awaitable[T]], index: int) -> T:
    try:
        made = job()
    except Exception as error:
        _explain(error, job, index)
        raise
    if not inspect.isawaitable(made):
        raise TypeError(f"{RULE}; job {index}, {name_of(job)}, returned {kind_of(made)}")
    return await made


def _explain(error: Exception, job: object, index: int) -> None:
    """Add an explanation to the error of a call that should have returned an awaitable."""
    traceback = traceback_of(error)
    name = name_of(job)
    if issubclass(type(error), TypeError) and traceback is not None and traceback.tb_next is None:
        # The traceback ends here, so the function was not entered: its parameters do not match the call.
        repair = (
            f"run_all calls it without arguments, map_all with one input: bind others, functools.partial({name}, ...)"
        )
        error.args = (f"{RULE}; job {index} cannot be called as it is: {error}; {repair}",)
    else:
        error.add_note(f"raised by calling job {index}, {name}; {RULE}")
