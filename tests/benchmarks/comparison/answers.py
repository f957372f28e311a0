"""An answer is a word and what was seen; a probe is a small program that gives one, within a time limit."""

import asyncio
import gc
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

LIMIT = 10.0  # seconds for one probe; a healthy one takes milliseconds

Word = Literal["yes", "partly", "by hand", "no"]
L = TypeVar("L", bound="Library")
F = TypeVar("F", bound=Callable[..., Any])


class Library:
    """A library under test: each kind of library adds a method for each thing that a probe asks of it."""

    name: str
    package: str
    "The distribution's name."
    module: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a library does about a feature."""

    word: Word
    seen: str


@dataclass(frozen=True, slots=True)
class Feature(Generic[L]):
    """A row of a table."""

    title: str
    link: str
    "The page that describes ours, from docs, with its anchor."
    probe: Callable[[L], Awaitable[Answer]]
    limit: float = LIMIT


def answer(good: object, seen: str, *, using: Callable[..., Any] | None = None) -> Answer:
    """Make an answer; `using` is the library's method that was tried, which may be marked as one's own lines."""
    if not good:
        return Answer("no", seen)
    return Answer("by hand" if using is not None and hasattr(using, "by_hand") else "yes", seen)


def by_hand(func: F) -> F:
    """Mark a method of which the deciding lines are the user's, not the library's."""
    func.by_hand = True  # type: ignore[attr-defined]
    return func


def ask(feature: Feature[L], library: L) -> Answer:
    """Run the probe in a loop of its own, and catch all that it leaves behind."""
    complaints: list[str] = []
    with collected(complaints), asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(reported(context)))
        found = runner.run(within_limit(feature.probe(library), feature.limit))
    if not complaints:
        return found
    return replace(found, seen=f"{found.seen}; left behind: {', '.join(sorted(set(complaints)))}")


@contextmanager
def collected(complaints: list[str]) -> Iterator[None]:
    """Collect warnings and what is raised where nobody can catch it, instead of printing them."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda event: complaints.append(f"unraisable {type(event.exc_value).__name__}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
            gc.collect()
        complaints += [str(warning.message).partition("\n")[0] for warning in caught]
    finally:
        sys.unraisablehook = hook


def reported(context: dict[str, Any]) -> str:
    """Return what the loop's exception handler gets, in words."""
    error = context.get("exception")
    return f"{type(error).__name__} reported to the loop's exception handler" if error else context["message"]


async def within_limit(probe: Awaitable[Answer], limit: float) -> Answer:
    """Let the probe answer; one that hangs or raises is an answer too."""
    task = asyncio.ensure_future(probe)
    done, _ = await asyncio.wait({task}, timeout=limit)
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=LIMIT)
        return Answer("no", f"hangs: stopped after {limit:g} s")
    try:
        return task.result()
    except BaseException as error:  # the CancelledError of a job as well
        return Answer("no", f"raises {described(error)}")


def described(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


async def turns(count: int = 20) -> None:
    """Let everything else go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], *, within: float = 1.0) -> bool:
    """Wait until the condition holds; return whether it held in time."""
    end = time.monotonic() + within
    while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - any condition, none of which can be awaited
        await asyncio.sleep(0.001)
    return bool(condition())


async def swallowed(task: asyncio.Future[Any]) -> None:
    """Wait for a task, however it ends."""
    with suppress(BaseException):
        await task


def left_running() -> int:
    """Count the tasks that run beside the one that asks and the one that waits for it."""
    return sum(not task.done() for task in asyncio.all_tasks()) - 2
