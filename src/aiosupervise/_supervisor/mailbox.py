"""The mailbox of a control loop: messages, each with its handler, which are handled one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import NamedTuple, TypeAlias

Handler: TypeAlias = Callable[[], Awaitable[None]]


class RejectedError(Exception):
    """Raised by the handler of a message whose request cannot be met."""


class Completion:
    """Await it to wait until something has been done.

    It is neither a coroutine nor a future: nothing warns if nobody awaits it, several tasks may await it, and
    cancelling one of them does not call off what they wait for.

    Args:
        rejection: message of the RuntimeError that awaiting a rejected request raises; empty if a rejection is not an
            error, as for a request to stop a child whose supervisor has stopped.

    """

    __slots__ = ("_done", "_is_rejected", "_rejection")

    def __init__(self, rejection: str = "") -> None:
        self._rejection = rejection
        self._is_rejected = False
        self._done = asyncio.Event()

    @property
    def is_done(self) -> bool:
        """Whether it has been resolved or rejected."""
        return self._done.is_set()

    def resolve(self) -> None:
        """Wake the waiting tasks: it has been done, unless it was rejected before."""
        self._done.set()

    def reject(self) -> None:
        """Wake the waiting tasks: it will never be done."""
        self._is_rejected = bool(self._rejection)
        self._done.set()

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        await self._done.wait()
        if self._is_rejected:
            raise RuntimeError(self._rejection)


class Message(NamedTuple):
    """A message: the handler that the control loop awaits, and the completion that the sender awaits."""

    handler: Handler
    completion: Completion


class Mailbox:
    """A queue of messages for one reader, which can also be woken without a message."""

    def __init__(self) -> None:
        self._messages = deque[Message]()
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._wake_up: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, handler: Handler, rejection: str = "") -> Completion:
        """Append a message, or reject it if the mailbox is closed."""
        completion = Completion(rejection)
        if self._is_closed:
            completion.reject()
        else:
            self._messages.append(Message(handler, completion))
            self.wake()
        return completion

    async def get(self) -> Message | None:
        """Remove and return the next message; wait for one if there is none. None if woken without a message."""
        if not self._messages:
            self._wake_up = self._loop.create_future()
            await self._wake_up
        return self._messages.popleft() if self._messages else None

    def wake(self) -> None:
        """Wake the reader, if it waits."""
        if self._wake_up is not None and not self._wake_up.done():
            self._wake_up.set_result(None)

    def close(self) -> None:
        """Reject the messages that were not handled, and those to come."""
        self._is_closed = True
        while self._messages:
            self._messages.popleft().completion.reject()
