"""Traces for OpenTelemetry: a span for each supervised call, with a child span for each attempt.

Install with `pip install "aiosupervise[opentelemetry]"`.
"""

from __future__ import annotations

import contextlib
from contextvars import Token
from typing import Final, final

from aiosupervise import AttemptFailed, AttemptStarted, CallFinished, Event, GaveUp
from aiosupervise._policy.checks import error_text

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


class _CallSpans:
    """The spans of one call in progress."""

    __slots__ = ("attempt", "context", "span", "token")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.context = set_span_in_context(span)
        self.attempt: Span | None = None
        self.token: Token[Context] | None = None

    def make_current(self, context: Context) -> None:
        """Make `context` the current context, in place of the context that this call set before."""
        if self.token is not None:
            detach(self.token)
        self.token = attach(context)

    def restore_context(self) -> None:
        """Restore the context that was current before the call."""
        if self.token is None:
            # The tracer failed to start a span, so no context was made current.
            return
        # `detach` would log an error if the token cannot be reset. A coroutine is often closed in a different context
        # from the one in which it ran, for example by the garbage collector, and nothing needs to be restored there
        # (https://github.com/open-telemetry/opentelemetry-python/issues/2606).
        with contextlib.suppress(ValueError):
            self.token.var.reset(self.token)


@final
class Spans:
    """A listener that traces supervised calls: `listen(Spans())`.

    The span of a call is named after the call. Its child spans are the attempts, named `<call> attempt`. While an
    attempt runs, its span is the current span, so that the spans of instrumented clients become its children; during
    the waits between attempts, the span of the call is current. A failed attempt has status ERROR and records the
    exception; the span of the call has status ERROR only if the call itself raised an error. Cancellation, and other
    exceptions that are not an `Exception`, do not count as errors.

    Attributes of a call: `aiosupervise.attempts`, the number of attempts, unless the first one succeeded;
    `aiosupervise.reason`, the name of the `Reason` in lower case, if the call gave up; `aiosupervise.run` and
    `aiosupervise.job`, the number of its run and the index of its job, if it belongs to a run. Attributes of an
    attempt: `aiosupervise.attempt`, its number, from the second on; `aiosupervise.wait`, the seconds until the next
    attempt, if there is one. Attributes of both: `aiosupervise.interrupted_by`, the class of an exception such as
    `CancelledError`, which ended the call or attempt but does not count as an error.

    A call that is not sampled has no spans for its attempts. A call that started before the listener was added has no
    span.

    Args:
        tracer_provider: the provider of the tracer; None for the global one, which may be set later.
    """

    __slots__ = ("_calls", "_start_span")

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._start_span = get_tracer("aiosupervise", tracer_provider=tracer_provider).start_span
        self._calls: dict[int, _CallSpans] = {}

    def __call__(self, event: Event) -> None:
        """Trace an event."""
        match event:
            case AttemptStarted():
                self._on_attempt_started(event)
            case CallFinished():
                self._on_call_finished(event)
            case AttemptFailed():
                self._on_attempt_failed(event)
            case GaveUp():
                spans = self._calls.get(event.call)
                if spans is not None:
                    spans.span.set_attribute(_REASON, event.reason.name.lower())
            case _:
                pass

    def _on_attempt_started(self, event: AttemptStarted) -> None:
        spans = self._calls.get(event.call)
        if spans is None:
            if event.attempt > 1:
                # The call started before the listener was added.
                return
            spans = self._calls[event.call] = _CallSpans(self._start_span(event.name, attributes=_job_of(event)))
        elif spans.attempt is not None:
            # The listener was added twice, and has traced this event already.
            return
        # The context is derived from the current one, because a block may set, for example, baggage for each attempt.
        context = set_span_in_context(spans.span)
        if spans.span.is_recording():
            # An attribute costs a quarter as much as a span, so the number 1, which most attempts have, is left out.
            attributes = {_ATTEMPT: event.attempt} if event.attempt > 1 else None
            spans.attempt = self._start_span(f"{event.name} attempt", context, attributes=attributes)
            context = set_span_in_context(spans.attempt)
        spans.make_current(context)

    def _on_attempt_failed(self, event: AttemptFailed) -> None:
        spans = self._calls.get(event.call)
        if spans is None or spans.attempt is None:
            return
        attempt, spans.attempt = spans.attempt, None
        spans.make_current(spans.context)
        # The span ends even if the text of the error cannot be obtained: its __str__ may raise.
        try:
            if event.wait is not None:
                attempt.set_attribute(_WAIT, event.wait)
            _set_error_status(attempt, event.error)
            attempt.record_exception(event.error, {"exception.message": _message_of(event.error)})
        finally:
            attempt.end()

    def _on_call_finished(self, event: CallFinished) -> None:
        spans = self._calls.pop(event.call, None)
        if spans is None:
            return
        spans.restore_context()
        if spans.attempt is not None:
            if event.error is not None:
                spans.attempt.set_attribute(_INTERRUPTED, type(event.error).__name__)
            spans.attempt.end()
        try:
            if event.error is not None or event.attempts > 1:
                _set_outcome(spans.span, event)
        finally:
            spans.span.end()


def _job_of(event: AttemptStarted) -> dict[str, int] | None:
    return None if event.run is None or event.job is None else {_RUN: event.run, _JOB: event.job}


def _set_outcome(span: Span, event: CallFinished) -> None:
    span.set_attribute(_ATTEMPTS, event.attempts)
    if isinstance(event.error, Exception):
        _set_error_status(span, event.error)
    elif event.error is not None:
        span.set_attribute(_INTERRUPTED, type(event.error).__name__)


def _set_error_status(span: Span, error: Exception) -> None:
    span.set_status(StatusCode.ERROR, error_text(error))


def _message_of(error: Exception) -> str:
    """Return the text of an error as in the log, but without its type, which is a separate attribute."""
    return error_text(error).partition(": ")[2]
