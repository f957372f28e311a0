"""How a call ended, and what was seen of it."""

from collections.abc import Coroutine
from typing import TypeVar

import pytest

from aiosupervise import Event, Verdict, verdict

E = TypeVar("E")


class Kept(list[Event]):
    """A listener: it appends each event."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def names(self) -> list[str]:
        """Return the class names of the events."""
        return [type(event).__name__ for event in self]

    def only(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self if isinstance(event, kind)]


async def error_of(call: Coroutine[object, None, object]) -> Exception:
    """Return the error with which a call ends."""
    try:
        await call
    except Exception as error:
        return error
    pytest.fail("the call succeeded")


def verdict_of(error: Exception) -> Verdict:
    """Return the verdict on an error, which must have one."""
    given_up = verdict(error)
    assert given_up is not None
    return given_up
