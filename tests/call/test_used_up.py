"""Arguments that can be read once: a call whose generator an attempt has begun gives up instead of sending nothing."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from aiosupervise import Budget, GiveUp, Policy, Reason, RetryAfter, listen, verdict

from .endings import error_of, verdict_of
from .forms import Supervise, only_async_functions, only_functions

POLICY = Policy(retry_on=ConnectionError, backoff=[0])


def chunks(text: str = "body") -> Iterator[str]:
    """The body of an upload."""
    kept = [text]  # so that the generator has a closure
    yield from (one for one in kept[0] if kept)


async def stream(text: str = "body") -> AsyncIterator[str]:
    """The body of an upload, as an async generator."""
    for one in text:
        yield one


async def answer() -> str:
    """The body of an upload, as a coroutine."""
    return "body"


class Chunks(Generator[str, None, None]):
    """A generator of another type than Python's own, as Cython creates them."""

    def __init__(self) -> None:
        self.rest = list("body")

    def send(self, _: None) -> str:
        if not self.rest:
            raise StopIteration
        return self.rest.pop(0)

    def throw(self, *error: Any) -> str:
        raise error[0]


async def read(body: Any) -> str:
    """Read a whole body of any kind."""
    if isinstance(body, Coroutine):
        return str(await body)
    if hasattr(body, "__aiter__"):
        return "".join([one async for one in body])
    return "".join(body)


class Upload:
    """An upload whose first attempts fail, after or without reading the body."""

    def __init__(self, failures: int = 1, *, reads: bool = True, error: Exception | None = None) -> None:
        self.failures = failures
        self.reads = reads
        self.error = error or ConnectionError("dropped")
        self.attempts = 0

    async def __call__(self, body: Any, *, other: Any = None) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            for each in (body, other):
                if self.reads and each is not None:
                    await read(each)
            raise self.error
        return await read(body)


ONCE: list[Callable[[], Any]] = [chunks, stream, answer, Chunks]
kinds = pytest.mark.parametrize("make", ONCE, ids=["generator", "async generator", "coroutine", "foreign generator"])


@only_functions
@kinds
@pytest.mark.parametrize("has_listener", [False, True])
async def test_a_call_gives_up_on_an_argument_that_an_attempt_has_begun(
    supervise: Supervise, make: Callable[[], Any], *, has_listener: bool
) -> None:
    """A retry would send nothing: the caller gets the error of the attempt, with a note that names the argument."""
    upload = Upload()
    with listen(lambda _: None) if has_listener else nullcontext():
        error = await error_of(supervise(POLICY)(upload)(make()))
    assert error is upload.error
    assert verdict_of(error).reason is Reason.USED_UP
    assert upload.attempts == 1
    head, detail = verdict_of(error).splitlines()
    assert head.endswith(": argument used up")
    assert detail.startswith("  argument 1, the ")
    assert detail.endswith(" was begun and cannot be read again: pass a function that creates it")


@pytest.mark.parametrize("make", [chunks, stream, answer])
async def test_an_argument_that_no_attempt_has_begun_is_sent(make: Callable[[], Any], supervise: Supervise) -> None:
    """A lost connection before the first byte is retried as usual, and the body arrives."""
    upload = Upload(failures=2, reads=False)
    assert await supervise(POLICY)(upload)(make()) == "body"
    assert upload.attempts == 3


@only_async_functions
@kinds
async def test_arguments_by_name_and_inside_of_partials(make: Callable[[], Any], supervise: Supervise) -> None:
    """All arguments of a call count, by position, by name and in partials."""
    error = await error_of(supervise(POLICY)(Upload())("body", other=make()))
    assert verdict_of(error).splitlines()[1].startswith("  argument other, ")
    for partial in (functools.partial(Upload(), make()), functools.partial(Upload(), other=make())):
        error = await error_of(supervise(POLICY)(functools.partial(partial))(*(["body"] if partial.keywords else [])))
        assert verdict_of(error).reason is Reason.USED_UP


@only_functions
async def test_a_half_read_or_closed_generator_was_begun(supervise: Supervise) -> None:
    """Only a generator that was never started can be sent again."""
    half, closed = chunks(), chunks()
    next(half)
    closed.close()  # type: ignore[attr-defined]
    waiting = stream()
    await anext(waiting)
    for body in (half, closed, waiting):
        error = await error_of(supervise(POLICY)(Upload(reads=False))(body))
        assert verdict_of(error).reason is Reason.USED_UP


class Websocket:
    """An object that is its own iterator, like a cursor or a file; it may be passed to each attempt."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raise StopIteration

    def close(self) -> None:
        """Close it."""


@pytest.mark.parametrize(
    "make",
    [Websocket, lambda: iter("body"), lambda: map(str, "body"), lambda: ["body"]],
    ids=["websocket", "iterator", "map", "list"],
)
async def test_other_iterators_are_passed_on(make: Callable[[], Any], supervise: Supervise) -> None:
    """Files, cursors and websockets are iterators too: they are passed to each attempt as they are."""
    upload = Upload()
    await supervise(POLICY)(upload)(make())
    assert upload.attempts == 2


@only_functions
async def test_other_reasons_and_unlisted_errors_come_first(supervise: Supervise) -> None:
    """Only a retry needs the argument: a call that gives up for another reason, or passes an error on, does so."""
    error = await error_of(supervise(POLICY.replace(max_retries=0))(Upload())(chunks()))
    assert verdict_of(error).reason is Reason.EXHAUSTED
    error = await error_of(supervise(POLICY)(Upload(error=ValueError()))(chunks()))
    assert verdict(error) is None
    error = await error_of(supervise(POLICY)(Upload(error=GiveUp()))(chunks()))
    assert verdict_of(error).reason is Reason.IRRECOVERABLE
    error = await error_of(supervise(POLICY)(Upload(error=RetryAfter(0)))(chunks()))
    assert verdict_of(error).reason is Reason.USED_UP


@only_functions
async def test_a_retry_that_is_not_made_is_not_paid_for(supervise: Supervise) -> None:
    """The budget keeps its tokens."""
    budget = Budget()
    await error_of(supervise(POLICY.replace(budget=budget))(Upload())(chunks()))
    assert budget.tokens == budget.capacity
