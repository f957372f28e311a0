"""The mailbox of a control loop: what is to be done, one step after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import TypeAlias

Step: TypeAlias = Callable[[], Awaitable[None]]


class RefusedError(Exception):
    """Raised by a step that cannot be done."""


class Command:
    """Something that was asked for. Await it to wait until it is done; it is done all the same."""

    __slots__ = ("_done", "_refusal", "_refused", "step")

    def __init__(self, step: Step, refusal: str) -> None:
        self.step = step
        self._refusal = refusal  # what to say if it is never done; nothing if that is just as well
        self._refused = False
        self._done = asyncio.Event()

    def close(self, *, refused: bool = False) -> None:
        """Know that it was done, or that it never will be; what comes first counts."""
        if self._done.is_set():
            return
        self._refused = refused and bool(self._refusal)
        self._done.set()

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        await self._done.wait()
        if self._refused:
            raise RuntimeError(self._refusal)


class Until:
    """Await it to wait until an event is set."""

    __slots__ = ("_event",)

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        await self._event.wait()


class Mailbox:
    """Orders that wait for their turn, and the sleep of who carries them out."""

    def __init__(self) -> None:
        self._orders = deque[Command]()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._change: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._orders)

    def put(self, step: Step, refusal: str = "") -> Command:
        """Ask for a step."""
        order = Command(step, refusal)
        if self._closed:
            order.close(refused=True)
        else:
            self._orders.append(order)
            self.wake()
        return order

    async def next(self) -> Command | None:
        """Return the next order; None when there was none, but something has changed."""
        if not self._orders:
            self._change = self._loop.create_future()
            await self._change
        return self._orders.popleft() if self._orders else None

    def wake(self) -> None:
        """Tell that something has changed."""
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def close(self) -> None:
        """Take no more, and refuse what was not done."""
        self._closed = True
        while self._orders:
            self._orders.popleft().close(refused=True)
