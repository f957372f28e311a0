"""Sources of items: any iterable or async iterable, pulled one item at a time by the pump of the run.

How a pull is interrupted. A run that is stopped cannot wait for the next item of an async source, which may never come.
The only way to end a pending `__anext__` is to cancel the task that awaits it, which is the pump. `interrupt` therefore
cancels the pump once, only while it is pulling, and records this in `interrupts`. `pull` treats the CancelledError as
the run's own only if `cancelling()`, the count of the task's cancellations, equals the number of those by the run. A
higher count means that other code has cancelled the pump too, and the error propagates. In either case, `uncancel()`
takes the run's own cancellation back, as asyncio.timeout does
(https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel), because a cancellation that stayed counted
would be mistaken for the shutdown of the loop. The source may have swallowed the CancelledError and yielded an item
after all: the pump reports that as pending.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from functools import partial
from typing import Final, Generic, Literal, TypeAlias, TypeVar

J = TypeVar("J")


HELD = (list, tuple, set, frozenset, deque)
"""Collections that hold their items: those that were not pulled are reported as pending at an early end."""

_GENERATORS = (Generator, AsyncGenerator)
"""Iterators with one reader, which are closed after an early end although the run did not open them."""


class _End(enum.Enum):
    END = "the source has no more"


END: Final = _End.END
End: TypeAlias = Literal[_End.END]


class SyncSource(Generic[J]):
    """An iterable."""

    interrupts: int = 0
    """The number of times the pump was cancelled to end a pull: always 0 here."""

    def __init__(self, items: Iterable[J]) -> None:
        self.total: int | None = len(items) if isinstance(items, Sized) else None
        self._items = items
        self.is_held: bool = isinstance(items, HELD)
        self._iterator: Iterator[J] | None = None
        self.exhausted: bool = False  # every item was pulled

    def held(self) -> Collection[J]:
        """Return the items of a collection such as a list; for any other iterable, return none."""
        return self._items if self.is_held else ()  # type: ignore[return-value] # its type was checked

    def puller(self) -> Callable[[], J | End]:
        """Return a function that returns the next item, or END."""
        if self._iterator is None:
            self._iterator = iter(self._items)
        return partial(next, self._iterator, END)

    def pull(self) -> J | End:
        """Return the next item, or END."""
        item = self.puller()()
        if item is END:
            self.exhausted = True
        return item

    def interrupt(self) -> None:
        """Do nothing: a plain iterator never waits."""

    def rest(self) -> Iterator[J]:
        """Remove and return the items left in a collection; for any other iterable, return none."""
        if self.is_held:
            while (item := self.pull()) is not END:
                yield item

    async def close(self) -> None:
        """Close the iterator, unless it is exhausted or belongs to the user."""
        if not self.exhausted and _is_ours(self._iterator, self._items):
            await _close(self._iterator)


class AsyncSource(Generic[J]):
    """An async iterable. A single task must do all the pulling and closing."""

    is_held: bool = False

    @property
    def at_hand(self) -> int:
        """The number of items that can be pulled without waiting; 1 if it is not known."""
        return 1

    def __init__(self, items: AsyncIterable[J]) -> None:
        self.total: int | None = None
        self.interrupts: int = 0
        self._items = items
        self._iterator: AsyncIterator[J] | None = None
        self.exhausted: bool = False  # every item was pulled
        self._puller: asyncio.Task[object] | None = None

    async def pull(self) -> J | End:
        """Return the next item, or END if there is none or the wait for it was interrupted."""
        self._puller = puller = asyncio.current_task()
        assert puller is not None  # noqa: S101 - for the type checkers
        try:
            if self._iterator is None:
                self._iterator = aiter(self._items)
            return await self._iterator.__anext__()
        except StopAsyncIteration:
            self.exhausted = True
            return END
        except asyncio.CancelledError:
            if puller.cancelling() != self.interrupts or not self.interrupts:
                raise
            return END
        finally:
            self._puller = None
            if self.interrupts:
                self.interrupts = 0
                puller.uncancel()

    def held(self) -> Collection[J]:
        """Return none: the source may be endless."""
        return ()

    def interrupt(self) -> None:
        """Interrupt the current pull; see the top of this file."""
        if self._puller is not None and self._puller is not asyncio.current_task():
            self.interrupts = 1
            self._puller.cancel()

    def rest(self) -> Iterator[J]:
        """Return none: the source may be endless."""
        return iter(())

    async def close(self) -> None:
        """Close the iterator, unless it is exhausted or belongs to the user."""
        if not self.exhausted and _is_ours(self._iterator, self._items):
            await _close(self._iterator)


Source: TypeAlias = SyncSource[J] | AsyncSource[J]


def _is_ours(iterator: object, items: object) -> bool:
    """Return whether the run opened this iterator, or whether it is a generator.

    Any other object that is its own iterator, such as a file, a cursor or a websocket, belongs to whoever opened it.
    """
    return iterator is not items or isinstance(iterator, _GENERATORS)


async def _close(iterator: object) -> None:
    close = getattr(iterator, "aclose", None) or getattr(iterator, "close", None)
    if callable(close):
        closing = close()
        if inspect.isawaitable(closing):
            await closing
