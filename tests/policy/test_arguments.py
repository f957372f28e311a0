"""Which arguments can be read once, and the sentence about one that was begun."""

from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from aiosupervise._policy.arguments import read_once, used_up


def lines() -> Generator[str]:
    """A body that is sent in parts."""
    yield "one"
    yield "two"


async def parts() -> AsyncGenerator[str]:
    """The same for an asynchronous client."""
    yield "one"
    yield "two"


class Step:
    """An awaitable that suspends the task that awaits it."""

    def __await__(self) -> Generator[None]:
        yield


async def token() -> str:
    """A coroutine that suspends once."""
    await Step()
    return "token"


def begin(made: Generator[str] | AsyncGenerator[str] | Coroutine[Any, Any, str]) -> None:
    """Take the first step of a generator or coroutine, of which some steps are left."""
    first = made.asend(None) if isinstance(made, AsyncGenerator) else made
    with suppress(StopIteration):
        first.send(None)


def upload(*args: object, **kwargs: object) -> None:
    """A function that an attempt calls."""


@pytest.mark.parametrize(
    ("make", "what"),
    [(lines, "the generator lines"), (parts, "the async generator parts"), (token, "the coroutine token")],
    ids=["generator", "async generator", "coroutine"],
)
async def test_an_argument_that_was_begun_is_described(make: Any, what: str) -> None:
    """The sentence says which argument it is, its kind and its name, and the repair; one that was not begun is fine."""
    made = make()
    arguments = read_once((upload, (1,), {"body": made}))
    assert used_up(arguments) is None
    begin(made)
    told = f"argument body, {what}, was begun and cannot be read again: pass a function that creates it"
    assert used_up(arguments) == told
    with suppress(AttributeError):
        made.close()
    if isinstance(made, AsyncGenerator):
        await made.aclose()


def test_arguments_inside_of_partials_are_found() -> None:
    """Python keeps a partial of a partial apart if the inner one has attributes."""
    inner = partial(upload, body := lines())
    inner.note = "kept apart"  # type: ignore[attr-defined]
    assert read_once((partial(inner, 2), (3,), {})) == (("argument 1", body),)


def test_an_object_that_only_has_the_methods_may_be_passed_again() -> None:
    """A `throw` method alone makes no generator."""

    class Dice:
        def throw(self) -> int:
            return 6

    assert read_once((upload, (Dice(),), {})) == ()
