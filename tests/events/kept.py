"""A listener that records events, for tests."""

from typing import TypeVar

from aiosupervise import Event, Policy

POLICY = Policy(retry_on=ConnectionError, irrecoverable=ValueError, backoff=[1.0])

E = TypeVar("E")


class Kept(list[Event]):
    """A list that, called with an event, appends it."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def names(self) -> list[str]:
        """Return the class names of the events."""
        return [type(event).__name__ for event in self]

    def only(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self if isinstance(event, kind)]


class Script:
    """A function that raises each of these errors in turn, then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    async def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"
