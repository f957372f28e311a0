"""`Completion`: the object that a command returns; await it to wait until the command has been carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Generator


class Completion:
    """The result of a command: await it to wait until the command has been carried out.

    It is neither a coroutine nor a future: there is no warning if nobody awaits it, several tasks may await it, and
    cancelling one of them does not cancel the command. Awaiting a resolved completion yields to the event loop once, so
    that a loop around it cannot starve other tasks.
    """

    __slots__ = ("_done", "_error")

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._done = asyncio.Event()

    @property
    def is_done(self) -> bool:
        """True if it has been resolved or rejected."""
        return self._done.is_set()

    def resolve(self) -> None:
        """Wake the waiting tasks, because the command has been carried out."""
        self._done.set()

    def reject(self, error: BaseException) -> None:
        """Raise this error in the waiting tasks, because the command will not be carried out."""
        self._error = error
        self._done.set()

    def __await__(self) -> Generator[object, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._done.is_set():
            await asyncio.sleep(0)
        await self._done.wait()
        error = self._error
        try:
            if error is not None:
                raise error
        finally:
            # Break a reference cycle: the traceback of the error holds this frame.
            del error, self
