"""Emits events."""

from __future__ import annotations

import asyncio
import logging

from aiosupervise._policy.checks import safe_repr

from . import log as _log
from .listeners import Listener, Scope, listeners
from .records import Event


def emit(event: Event, place: Scope | None) -> None:
    """Tell an event to the log, to all who listen, and to the place in which it happened."""
    if type(event) in _log.LOGGED:
        call_listener(_log.write, event)
    for listener in listeners.global_listeners:
        call_listener(listener, event)
    if place is not None:
        place.notify(event)


def call_listener(listener: Listener, event: Event) -> None:
    """Tell one listener. What it raises, a CancelledError of its own included, goes to the loop's handler."""
    try:
        listener(event)
    except (Exception, asyncio.CancelledError) as error:
        _report(f"a listener failed: {safe_repr(listener)}", error)


def _report(message: str, error: BaseException) -> None:  # not in `call_listener`, a frame that the error holds
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # a call was thrown away when its loop was gone
        logging.getLogger("asyncio").error(message, exc_info=error)  # noqa: TRY400 - as the loop's default handler does
    else:
        loop.call_exception_handler({"message": message, "exception": error})
