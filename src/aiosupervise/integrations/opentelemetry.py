"""Traces: a span for each supervised call, and below it one for each attempt, through OpenTelemetry's API.

Install with `pip install "aiosupervise[opentelemetry]"`.
"""

from __future__ import annotations

import contextlib
from contextvars import Token
from typing import Final, final

from aiosupervise import AttemptFailed, AttemptStarted, CallFinished, Event, GaveUp

try:
    from opentelemetry.context import Context, attach, detach
    from opentelemetry.trace import Span, StatusCode, TracerProvider, get_tracer, set_span_in_context
except ImportError as _error:
    raise ImportError(
        'aiosupervise.integrations.opentelemetry needs opentelemetry-api: pip install "aiosupervise[opentelemetry]"'
    ) from _error

__all__ = ["Spans"]

_ATTEMPT: Final = "aiosupervise.attempt"
_ATTEMPTS: Final = "aiosupervise.attempts"
_INTERRUPTED: Final = "aiosupervise.interrupted_by"
_JOB: Final = "aiosupervise.job"
_REASON: Final = "aiosupervise.reason"
_RUN: Final = "aiosupervise.run"
_WAIT: Final = "aiosupervise.wait"


class _Call:
    """The spans of one call that is under way."""

    __slots__ = ("attempt", "context", "span", "token")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context = set_span_in_context(span)
        self.attempt: Span | None = None  # the running one, unless nobody records the call
        self.token: Token[Context] | None = None

    def make_current(self, context: Context) -> None:
        """Let a context be the current one, in place of the call's previous."""
        if self.token is not None:
            detach(self.token)
        self.token = attach(context)


@final
class Spans:
    """A listener that traces supervised calls: `listen(Spans())`.

    The span of a call has the call's name, and below it is one for each attempt, named `<call> attempt`. An attempt's
    span is the current one while the attempt runs, so that what instrumented clients make is below it; in the waits
    between, the call's span is the current one. A failed attempt has status ERROR and the exception; the call has
    status ERROR only if it raised in the end. What is no Exception, such as a cancellation, is no error.

    The attributes of a call: `aiosupervise.attempts`, unless the first one succeeded; `aiosupervise.reason` if it gave
    up, the name of the `Reason` in lower case; `aiosupervise.run` and `aiosupervise.job`, the numbers of its run and
    job, if it has them. Of an attempt: `aiosupervise.attempt`, its number, from the second on; `aiosupervise.wait`,
    the seconds until the next one, if there is one. Of both: `aiosupervise.interrupted_by`, the class of what ended
    them that is no error, such as `CancelledError`.

    A call that is not sampled has no spans for its attempts. A call that began before the listening has no span.

    Args:
        tracer_provider: makes the tracer; None for the global one, which may be set later.

    """

    __slots__ = ("_calls", "_start")

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._start = get_tracer("aiosupervise", tracer_provider=tracer_provider).start_span
        self._calls: dict[int, _Call] = {}

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case AttemptStarted():
                self._started(event)
            case CallFinished():
                self._finished(event)
            case AttemptFailed():
                self._failed(event)
            case GaveUp():
                call = self._calls.get(event.call)
                if call is not None:
                    call.span.set_attribute(_REASON, event.reason.name.lower())
            case _:
                pass

    def _started(self, event: AttemptStarted) -> None:
        call = self._calls.get(event.call)
        attributes = None  # one costs a quarter of a span: what is true of most calls is not written
        if call is None:
            if event.attempt > 1:  # it began before the listening
                return
            job = None if event.run is None or event.job is None else {_RUN: event.run, _JOB: event.job}
            call = self._calls[event.call] = _Call(self._start(event.name, attributes=job))
        elif call.attempt is not None:  # the same listener was given twice
            return
        else:
            attributes = {_ATTEMPT: event.attempt}
        context = call.context
        if call.span.is_recording():
            call.attempt = self._start(f"{event.name} attempt", context, attributes=attributes)
            context = set_span_in_context(call.attempt, context)
        call.make_current(context)

    def _failed(self, event: AttemptFailed) -> None:
        call = self._calls.get(event.call)
        if call is None or call.attempt is None:
            return
        span, call.attempt = call.attempt, None
        call.make_current(call.context)
        try:
            if event.wait is not None:
                span.set_attribute(_WAIT, event.wait)
            span.record_exception(event.error)
            _set_error(span, event.error)
        finally:  # an error's text may fail
            span.end()

    def _finished(self, event: CallFinished) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        error = event.error
        _leave(call, error)
        if call.attempt is not None:
            if error is not None:
                call.attempt.set_attribute(_INTERRUPTED, type(error).__name__)
            call.attempt.end()
        try:
            if error is not None or event.attempts > 1:
                _describe(call.span, event)
        finally:
            call.span.end()


def _leave(call: _Call, error: BaseException | None) -> None:
    """Let what was current before the call be so again."""
    if call.token is None:  # the making of a span failed
        return
    if isinstance(error, GeneratorExit):  # thrown away, maybe in another context, where `detach` would log an error
        with contextlib.suppress(ValueError):
            call.token.var.reset(call.token)
    else:
        detach(call.token)


def _describe(span: Span, event: CallFinished) -> None:
    span.set_attribute(_ATTEMPTS, event.attempts)
    if isinstance(event.error, Exception):
        _set_error(span, event.error)
    elif event.error is not None:
        span.set_attribute(_INTERRUPTED, type(event.error).__name__)


def _set_error(span: Span, error: Exception) -> None:
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
