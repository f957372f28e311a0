"""Sources of items: any iterable or async iterable, pulled one item at a time by the pump of the run.

How a pull is interrupted. A stopped run cannot wait for the next item of an async source, which may never arrive.
The only way to end a pending `__anext__` is to cancel the task that awaits it, which is the pump. `interrupt` therefore
cancels the pump once, only while it is pulling, and records this in `interrupts`. `pull` treats the CancelledError as
the run's own only if `cancelling()`, the count of the task's cancellations, equals the number of cancellations by the
run. A higher count means that other code has cancelled the pump too, and the error propagates. In either case,
`uncancel()` takes the run's own cancellation back, as asyncio.timeout does
(https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.uncancel). If it stayed counted, it would be mistaken
for the shutdown of the loop. If the source has suppressed the CancelledError and yielded an item after all, the pump
reports this item as pending.
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


COLLECTIONS = (list, tuple, set, frozenset, deque)
"""The types of collections whose remaining items are reported as pending if the run ends early."""

_GENERATORS = (Generator, AsyncGenerator)
"""The types of iterators that are closed if the run ends early, although the run did not open them."""


class _End(enum.Enum):
    END = "the source has no more"


END: Final = _End.END
End: TypeAlias = Literal[_End.END]


class SyncSource(Generic[J]):
    """An iterable."""

    interrupts: int = 0
    """The number of times the pump was cancelled to end a pull: always 0, since this source never waits."""

    def __init__(self, items: Iterable[J]) -> None:
        self.total: int | None = len(items) if isinstance(items, Sized) else None
        self._items = items
        self.is_collection: bool = isinstance(items, COLLECTIONS)
        self._iterator: Iterator[J] | None = None
        # Whether every item was pulled.
        self.exhausted: bool = False

    def items_in_memory(self) -> Collection[J]:
        """Return the items of a collection such as a list, or an empty collection for any other iterable."""
        return self._items if self.is_collection else ()  # type: ignore[return-value] # its type was checked

    def puller(self) -> Callable[[], J | End]:
        """Return a function that returns the next item, or END; its caller has to set `exhausted`."""
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
        """Pull and yield the remaining items if the source is a collection; otherwise yield nothing."""
        if self.is_collection:
            while (item := self.pull()) is not END:
                yield item

    async def close(self) -> None:
        """Close the iterator, unless it is exhausted or belongs to the user."""
        if not self.exhausted and _is_ours(self._iterator, self._items):
            await _close(self._iterator)


class AsyncSource(Generic[J]):
    """An async iterable; a single task must pull from it and close it."""

    is_collection: bool = False

    @property
    def available(self) -> int:
        """The number of items that can be pulled without waiting; 1 if the number is unknown."""
        return 1

    def __init__(self, items: AsyncIterable[J]) -> None:
        self.total: int | None = None
        self.interrupts: int = 0
        self._items = items
        self._iterator: AsyncIterator[J] | None = None
        # Whether every item was pulled.
        self.exhausted: bool = False
        self._pulling_task: asyncio.Task[object] | None = None

    async def pull(self) -> J | End:
        """Return the next item, or END if there is none or the wait for it was interrupted."""
        self._pulling_task = puller = asyncio.current_task()
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
            self._pulling_task = None
            if self.interrupts:
                self.interrupts = 0
                puller.uncancel()

    def items_in_memory(self) -> Collection[J]:
        """Return an empty collection, because the source may be endless."""
        return ()

    def interrupt(self) -> None:
        """Interrupt the current pull, as described in the module docstring."""
        if self._pulling_task is not None and self._pulling_task is not asyncio.current_task():
            self.interrupts = 1
            self._pulling_task.cancel()

    def rest(self) -> Iterator[J]:
        """Return an empty iterator, because the source may be endless."""
        return iter(())

    async def close(self) -> None:
        """Close the iterator, unless it is exhausted or belongs to the user."""
        if not self.exhausted and _is_ours(self._iterator, self._items):
            await _close(self._iterator)


Source: TypeAlias = SyncSource[J] | AsyncSource[J]


def _is_ours(iterator: object, items: object) -> bool:
    """Return True if the run opened this iterator, or if it is a generator.

    Any other object that is its own iterator, such as a file, a cursor or a websocket, must be closed by the code that
    opened it.
    """
    return iterator is not items or isinstance(iterator, _GENERATORS)


async def _close(iterator: object) -> None:
    close = getattr(iterator, "aclose", None) or getattr(iterator, "close", None)
    if callable(close):
        closing = close()
        if inspect.isawaitable(closing):
            await closing
