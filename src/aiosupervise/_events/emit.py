"""Emit events to the log, to the listeners of the process, and to those of the enclosing runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol, final

from aiosupervise._policy.checks import name_of

from .listeners import Listener, listeners
from .log import line_for
from .records import Event


class EnclosingScope(Protocol):
    """A job or run that encloses the code that emits an event; its listeners also receive the event."""

    def notify(self, event: Event) -> None:
        """Pass an event on to the listeners of this scope and of the enclosing ones."""


def emit(
    kind: Callable[..., Event], values: tuple[object, ...], enclosing: EnclosingScope | None, *, is_logged: bool = True
) -> None:
    """Create and emit an event of the class `kind`, unless nobody would receive it.

    The event goes to the log, to the listeners of the process in the order in which they were added, and to the
    listeners of the enclosing scopes from the inside out.
    """
    line = line_for(kind, values) if is_logged else None
    if listeners.count:
        listeners.drop_closed()
    if line is None and not listeners.count:
        return
    event = kind(*values)
    if line is not None:
        call_listener(line.write, event)
    for listener in listeners.global_listeners:
        call_listener(listener, event)
    if enclosing is not None:
        enclosing.notify(event)


@final
class Scope:
    """A run or a supervisor, all of whose events begin with the same fields. It may have a listener of its own.

    Args:
        fields: the values that follow the number of the scope in each of its events.
        listener: the scope's own listener, which receives the events between `open` and `close`.
        enclosing: the job in which it was created; None outside runs.
    """

    __slots__ = ("_enclosing", "_fields", "_listener", "_loop", "number")

    def __init__(
        self, number: int, *fields: object, listener: Listener | None = None, enclosing: EnclosingScope | None = None
    ) -> None:
        self.number: int = number
        self._fields = (number, *fields)
        self._listener = listener
        self._enclosing = enclosing
        # The loop in which the listener is counted; None while it is not.
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, kind: Callable[..., Event], *values: object, is_logged: bool = True) -> None:
        """Emit an event of this scope, given the values after the common fields; `is_logged=False` omits the log."""
        emit(kind, (*self._fields, *values), self, is_logged=is_logged)

    def notify(self, event: Event) -> None:
        """Pass an event on to the scope's own listener, and to those of the enclosing scopes."""
        if self._listener is not None:
            call_listener(self._listener, event)
        if self._enclosing is not None:
            self._enclosing.notify(event)

    def open(self) -> None:
        """Count the scope's own listener, so that events are created for it."""
        if self._listener is not None:
            self._loop = asyncio.get_running_loop()
            listeners.adjust(1, self._loop)

    def close(self) -> None:
        """Release the scope's own listener, which may refer to the run. Idempotent."""
        loop, listener, self._loop, self._listener = self._loop, self._listener, None, None
        if listener is not None:
            listeners.forget(listener)
        if loop is not None:
            listeners.adjust(-1, loop)

    def __del__(self) -> None:
        """Stop counting the listener if the scope never ended because its loop was closed."""
        if self._loop is not None:
            listeners.drop_closed()


def call_listener(listener: Callable[[Event], object], event: Event) -> None:
    """Call one listener, and report an error that it raises, even a CancelledError, to the loop's exception handler."""
    try:
        answer = listener(event)
        if answer is not None and isinstance(answer, Coroutine):
            _discard(answer, listener)
    except (Exception, asyncio.CancelledError) as error:
        _report(f"a listener failed: {name_of(listener)}", error)


# An async function is refused as a listener, but the return value of a lambda is known only when it is called.
def _discard(coroutine: Coroutine[object, None, object], listener: Callable[[Event], object]) -> None:
    """Close a coroutine that a listener returned; report only the first one."""
    coroutine.close()
    if listeners.is_first_coroutine(listener):
        rule = "a listener is called, not awaited, and it returned a coroutine, which was closed without being run"
        repair = "write a plain function, which may start a task or put the event into a queue"
        raise TypeError(f"{rule}: {repair}")


# This is a separate function, because in `call_listener` the loop would be a local variable of a frame to which the
# error refers.
def _report(message: str, error: BaseException) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # A call was discarded after its loop had ended, so log the error as the loop's default handler would.
        logging.getLogger("asyncio").error(message, exc_info=error)  # noqa: TRY400
    else:
        loop.call_exception_handler({"message": message, "exception": error})
