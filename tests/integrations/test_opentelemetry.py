"""The spans of supervised calls, as OpenTelemetry's own SDK exports them."""

import asyncio
import contextlib
import contextvars
import gc
import importlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.baggage import get_baggage, set_baggage
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import INVALID_SPAN, StatusCode, get_current_span

from aiosupervise import (
    AttemptFailed,
    AttemptStarted,
    CallFinished,
    Event,
    GaveUp,
    Policy,
    Reason,
    RetryAfter,
    listen,
    run_all,
    supervise,
)
from aiosupervise.integrations.opentelemetry import Spans

Ends = Callable[[], Coroutine[Any, Any, Any]]


class Traced:
    """A provider of the SDK, what it exports, and the listener that is tested."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("user")
        self.spans = Spans(self.provider)

    def named(self, name: str) -> list[ReadableSpan]:
        """The ended spans of this name, in the order in which they ended."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def only(self, name: str) -> ReadableSpan:
        """The one span of this name."""
        (span,) = self.named(name)
        return span


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Everything is traced, and nothing is kept of any call in the end."""
    traced = Traced()
    with listen(traced.spans):
        yield traced
    assert traced.spans._calls == {}


def parent(span: ReadableSpan) -> int | None:
    """The id of the span above."""
    return None if span.parent is None else span.parent.span_id


def number(span: ReadableSpan | trace.Span) -> int:
    """The id of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def attributes(span: ReadableSpan) -> dict[str, object]:
    """All of them."""
    return dict(span.attributes or {})


def failing(*errors: BaseException) -> Ends:
    """A supervised function that raises these in turn, then succeeds; a ConnectionError is worth a second try."""
    left = list(errors)

    @supervise(retry_on=ConnectionError, irrecoverable=PermissionError, max_retries=2, backoff=[0.5, 0.25])
    async def fetch() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return fetch


@supervise(retry_on=ConnectionError)
async def hang() -> None:
    """Never answers."""
    await asyncio.Event().wait()


@supervise(retry_on=ConnectionError, backoff=[3600])
async def wait() -> None:
    """Waits for the next attempt."""
    raise ConnectionError


async def ended(call: Ends) -> Exception | None:
    """The error of a call; None if it returned."""
    try:
        await call()
    except Exception as error:
        return error
    return None


# One call


async def test_a_call_has_a_span_and_a_child_for_its_attempt(traced: Traced) -> None:
    """A call that succeeds at once has two spans, without any status or attribute; nothing is current afterwards."""
    assert await failing()() == "answer"
    call, attempt = traced.only("fetch"), traced.only("fetch attempt")
    assert parent(call) is None
    assert parent(attempt) == number(call)
    assert call.status.status_code is attempt.status.status_code is StatusCode.UNSET
    assert attributes(call) == attributes(attempt) == {}
    assert get_current_span() is INVALID_SPAN
    assert call.instrumentation_scope is not None
    assert call.instrumentation_scope.name == "aiosupervise"


@pytest.mark.looptime
async def test_a_call_that_recovered_is_no_error(traced: Traced) -> None:
    """The failed attempts are errors, with their exceptions and the waits after them; the call is none."""
    await failing(ConnectionError("down"), ConnectionError("still down"))()
    call = traced.only("fetch")
    assert call.status.status_code is StatusCode.UNSET
    assert attributes(call) == {"aiosupervise.attempts": 3}
    first, second, third = traced.named("fetch attempt")
    assert {parent(first), parent(second), parent(third)} == {number(call)}
    assert attributes(first) == {"aiosupervise.wait": 0.5}
    assert attributes(second) == {"aiosupervise.attempt": 2, "aiosupervise.wait": 0.25}
    assert attributes(third) == {"aiosupervise.attempt": 3}
    assert second.status.status_code is StatusCode.ERROR
    assert second.status.description == "ConnectionError: still down"
    assert third.status.status_code is StatusCode.UNSET
    (event,) = second.events
    assert event.name == "exception"
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "still down"
    assert "in fetch" in str(event.attributes["exception.stacktrace"])


@pytest.mark.looptime
async def test_the_message_of_an_error_is_one_line(traced: Traced) -> None:
    """Unprintable characters are escaped, as in the log; the type is left out, because it has its own attribute."""
    await failing(ConnectionError("no answer: [Errno 5]\n\x1b[2Jagain"))()
    (event,) = traced.named("fetch attempt")[0].events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == r"no answer: [Errno 5]\n\x1b[2Jagain"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("errors", "reason", "attempts"),
    [
        ([ConnectionError("1"), ConnectionError("2"), ConnectionError("down")], "exhausted", 3),
        ([PermissionError("down")], "irrecoverable", 1),
        ([ConnectionError("1"), RetryAfter(1000)], "retry_after_too_long", 2),
        ([ConnectionError("1"), ValueError("down")], None, 2),
    ],
    ids=["exhausted", "irrecoverable", "retry-after too long", "not listed"],
)
async def test_a_call_that_raised_is_an_error(
    traced: Traced, errors: list[Exception], reason: str | None, attempts: int
) -> None:
    """The call's span has the error's text, the attempts, and the reason if its policy gave up; the last attempt has
    the exception and no wait.
    """
    with pytest.raises(type(errors[-1])):
        await failing(*errors)()
    call = traced.only("fetch")
    last = traced.named("fetch attempt")[-1]
    assert call.status.status_code is last.status.status_code is StatusCode.ERROR
    assert call.status.description == f"{type(errors[-1]).__name__}: {errors[-1]}"
    expected = {"aiosupervise.attempts": attempts} | ({"aiosupervise.reason": reason} if reason else {})
    assert attributes(call) == expected
    assert call.events == (), "the error is recorded once, on the span of the attempt"
    assert len(last.events) == 1
    assert "aiosupervise.wait" not in attributes(last)


@pytest.mark.looptime
@pytest.mark.parametrize("call", [hang, wait], ids=["in an attempt", "in a wait"])
async def test_a_cancelled_call_is_no_error(traced: Traced, call: Ends) -> None:
    """Its span says that it was cancelled, and so does that of an attempt that ran."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await call()
    name = getattr(call, "__name__", "")
    span, attempt = traced.only(name), traced.only(f"{name} attempt")
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {"aiosupervise.attempts": 1, "aiosupervise.interrupted_by": "CancelledError"}
    if call is hang:
        assert attempt.status.status_code is StatusCode.UNSET
        assert attributes(attempt) == {"aiosupervise.interrupted_by": "CancelledError"}
    else:
        assert "aiosupervise.interrupted_by" not in attributes(attempt)
    assert get_current_span() is INVALID_SPAN


def test_an_exit_is_no_error(traced: Traced) -> None:
    """A SystemExit ends the spans, and they name it."""
    with pytest.raises(SystemExit):
        failing(SystemExit())().send(None)
    assert traced.only("fetch").status.status_code is StatusCode.UNSET
    assert attributes(traced.only("fetch attempt")) == {"aiosupervise.interrupted_by": "SystemExit"}


# What is current


@pytest.mark.looptime
async def test_what_an_attempt_makes_is_below_its_span(traced: Traced) -> None:
    """A client's span is below that of its attempt, in the tasks that the attempt starts too."""

    async def client() -> None:
        with traced.tracer.start_as_current_span("GET"):
            await asyncio.sleep(0)

    @supervise(retry_on=ConnectionError, backoff=[1])
    async def fetch(errors: list[Exception]) -> None:
        await client()
        await asyncio.create_task(client())
        if errors:
            raise errors.pop()

    await fetch([ConnectionError()])
    first, second = map(number, traced.named("fetch attempt"))
    assert [parent(span) for span in traced.named("GET")] == [first, first, second, second]


@pytest.mark.looptime
async def test_in_the_waits_the_span_of_the_call_is_current(traced: Traced) -> None:
    """What is logged or traced between two attempts belongs to the call, not to the attempt that failed."""
    current = []

    def look(event: Event) -> None:
        if isinstance(event, AttemptFailed):
            current.append(number(get_current_span()))

    with listen(look):
        await failing(ConnectionError(), ConnectionError())()
    assert current == [number(traced.only("fetch"))] * 2


@pytest.mark.looptime
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "not sampled"])
async def test_baggage_that_a_loop_sets_for_an_attempt_is_used_in_it(sampler: Sampler) -> None:
    """An example is the address of a server, if each attempt of a block tries another server."""
    traced = Traced(sampler)
    seen = []
    with listen(traced.spans):
        async for attempt in Policy(name="fetch", retry_on=ConnectionError, backoff=[1]):
            token = attach(set_baggage("server", attempt.number))
            async with attempt:
                seen.append(get_baggage("server"))
                if attempt.number < 3:
                    raise ConnectionError
            detach(token)
    assert seen == [1, 2, 3]
    assert get_baggage("server") is None
    assert [parent(span) for span in traced.named("fetch attempt")] == [
        number(span) for span in traced.named("fetch") for _ in range(3)
    ]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("call", "end"),
    [
        (failing(), None),
        (failing(ConnectionError()), None),
        (failing(PermissionError()), PermissionError),
        (failing(KeyError()), KeyError),
        (failing(asyncio.CancelledError()), asyncio.CancelledError),
    ],
    ids=["succeeds", "recovers", "gives up", "fails", "is cancelled"],
)
async def test_a_call_is_below_the_users_span_and_leaves_that_current(
    traced: Traced, call: Ends, end: type[BaseException] | None
) -> None:
    """However a call ends, what was current before is so again, and takes no harm."""
    with traced.tracer.start_as_current_span("request") as request:
        with contextlib.nullcontext() if end is None else pytest.raises(end):
            await call()
        assert get_current_span() is request
    assert parent(traced.only("fetch")) == number(request)
    assert traced.only("request").status.status_code is StatusCode.UNSET


@pytest.mark.looptime
async def test_an_attempt_with_a_timeout(traced: Traced) -> None:
    """An attempt that its policy ends is an error, as any other."""

    @supervise(retry_on=TimeoutError, attempt_timeout=1, max_retries=0)
    async def late() -> None:
        await asyncio.sleep(2)

    with pytest.raises(TimeoutError):
        await late()
    (event,) = traced.only("late attempt").events
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "aiosupervise.AttemptTimeout"
    assert attributes(traced.only("late"))["aiosupervise.reason"] == "exhausted"


# Many calls


@pytest.mark.looptime
async def test_concurrent_calls_keep_apart(traced: Traced) -> None:
    """Calls that fail and wait at the same time have their own spans, each with its own attempts."""

    @supervise(retry_on=ConnectionError, max_retries=5, backoff=[1])
    async def fetch(errors: list[Exception]) -> int:
        await asyncio.sleep(0.1)
        if errors:
            raise errors.pop()
        return number(get_current_span())

    last = await asyncio.gather(*[fetch([ConnectionError()] * failures) for failures in (0, 1, 2, 3)])
    calls = {number(call): call for call in traced.named("fetch")}
    attempts: dict[int | None, list[int]] = {key: [] for key in calls}
    for attempt in traced.named("fetch attempt"):
        attempts[parent(attempt)].append(number(attempt))
    made = {attributes(call).get("aiosupervise.attempts", 1): attempts[key] for key, call in calls.items()}
    assert {key: len(value) for key, value in made.items()} == {1: 1, 2: 2, 3: 3, 4: 4}
    assert [made[key][-1] for key in (1, 2, 3, 4)] == last


@pytest.mark.looptime
async def test_a_call_in_a_call_is_below_its_attempt(traced: Traced) -> None:
    """The inner call's span is below the outer attempt in which it was made."""
    inner = failing(ConnectionError())
    current = []

    @supervise(retry_on=TimeoutError, backoff=[1])
    async def outer(errors: list[Exception]) -> None:
        if errors:
            raise errors.pop()
        await inner()
        current.append(number(get_current_span()))

    await outer([TimeoutError()])
    second = number(traced.named("outer attempt")[1])
    assert parent(traced.only("fetch")) == second
    assert current == [second]


async def test_calls_in_jobs_are_below_the_span_around_the_run(traced: Traced) -> None:
    """They are below what was current when the run was made, and have the numbers of the run and the job."""
    jobs = [failing() for _ in range(3)]
    with traced.tracer.start_as_current_span("batch") as batch:
        await run_all(jobs, limit=2)
        assert get_current_span() is batch
    spans = traced.named("fetch")
    assert {parent(span) for span in spans} == {number(batch)}
    assert sorted(str(attributes(span)["aiosupervise.job"]) for span in spans) == ["0", "1", "2"]
    assert len({attributes(span)["aiosupervise.run"] for span in spans}) == 1


def test_loops_in_several_threads(traced: Traced) -> None:
    """One listener serves them all."""

    async def calls() -> None:
        for _ in range(50):
            await failing()()

    threads = [Thread(target=asyncio.run, args=(calls(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {parent(span) for span in traced.named("fetch attempt")} == {number(span) for span in traced.named("fetch")}
    assert len(traced.named("fetch attempt")) == 150


# What goes wrong


@pytest.mark.looptime
@pytest.mark.parametrize("call", [hang, wait], ids=["in an attempt", "in a wait"])
@pytest.mark.parametrize("in_one_context", [True, False])
async def test_a_call_that_is_thrown_away(
    traced: Traced, caplog: pytest.LogCaptureFixture, call: Ends, *, in_one_context: bool
) -> None:
    """Its spans end, and nobody complains about the context, which may be another one by then."""
    name = getattr(call, "__name__", "")
    run = contextvars.copy_context().run
    coroutine = call()
    run(coroutine.send, None)
    if in_one_context:
        run(coroutine.close)
        assert run(get_current_span) is INVALID_SPAN
    else:
        del coroutine
        gc.collect()
    assert attributes(traced.only(name))["aiosupervise.interrupted_by"] == "GeneratorExit"
    assert traced.only(f"{name} attempt")
    assert get_current_span() is INVALID_SPAN
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.mark.looptime
@pytest.mark.parametrize("failures", [1, 3], ids=["recovers", "gives up"])
async def test_a_call_that_began_before(failures: int) -> None:
    """A call that was under way when the listening began has no spans at all, rather than a part of them."""
    traced = Traced()
    call = failing(*[ConnectionError("down") for _ in range(failures)])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ended(call))
        await asyncio.sleep(0.1)
        subscription = listen(traced.spans)
    with subscription:
        assert isinstance(task.result(), ConnectionError) == (failures == 3)
    assert traced.exporter.get_finished_spans() == ()
    assert traced.spans._calls == {}


@pytest.mark.looptime
async def test_the_same_listener_twice(traced: Traced) -> None:
    """Whoever gives one listener for everything twice still has each span once."""
    with listen(traced.spans):
        await failing(ConnectionError())()
    assert traced.only("fetch")
    first, second = traced.named("fetch attempt")
    assert attributes(first) == {"aiosupervise.wait": 0.5}
    assert attributes(second) == {"aiosupervise.attempt": 2}
    assert get_current_span() is INVALID_SPAN


@pytest.mark.looptime
async def test_an_error_whose_text_fails(traced: Traced) -> None:
    """The caller gets that error as ever; the spans end, and the other error goes to the loop's exception handler."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    with pytest.raises(MuteError):
        await failing(ConnectionError(), MuteError())()
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert len(traced.named("fetch attempt")) == 2
    assert traced.only("fetch")
    assert get_current_span() is INVALID_SPAN


class Broken(SpanProcessor):
    """Fails for the spans of attempts."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's names
        if span.name.endswith("attempt"):
            raise ZeroDivisionError


async def test_a_tracer_that_fails(traced: Traced, caplog: pytest.LogCaptureFixture) -> None:
    """It harms neither the call nor the context, and nothing is kept."""
    traced.provider.add_span_processor(Broken())
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    assert await failing()() == "answer"
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert traced.only("fetch")
    assert caplog.records == []
    assert get_current_span() is INVALID_SPAN


@pytest.mark.looptime
async def test_a_call_that_is_not_sampled() -> None:
    """Nothing is exported, and what the attempts make knows that it belongs to a call that is not sampled."""
    traced = Traced(ALWAYS_OFF)
    seen = []

    @supervise(retry_on=ConnectionError, backoff=[1], max_retries=1)
    async def fetch() -> None:
        seen.append(get_current_span().get_span_context())
        raise ConnectionError

    with listen(traced.spans), pytest.raises(ConnectionError):
        await fetch()
    assert traced.exporter.get_finished_spans() == ()
    assert seen[0].is_valid
    assert not seen[0].trace_flags.sampled
    assert seen[0] == seen[1]
    assert traced.spans._calls == {}
    assert get_current_span() is INVALID_SPAN


@pytest.mark.looptime
async def test_without_the_sdk() -> None:
    """Where no SDK is set up, the calls do as ever and nothing is traced."""
    spans = Spans()
    with listen(spans):
        assert await failing(ConnectionError())() == "answer"
        assert get_current_span() is INVALID_SPAN
    assert spans._calls == {}


@pytest.mark.parametrize(
    "event",
    [
        AttemptFailed(1, "fetch", None, None, 2, ConnectionError(), 0.5),
        AttemptStarted(1, "fetch", None, None, 2),
        GaveUp(1, "fetch", None, None, 2, 1.0, Reason.EXHAUSTED, ConnectionError()),
        CallFinished(1, "fetch", None, None, 2, None),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_of_a_call_that_is_not_traced_is_ignored(traced: Traced, event: Event) -> None:
    """The listener makes nothing of it, and raises nothing."""
    traced.spans(event)
    assert traced.exporter.get_finished_spans() == ()


def test_an_event_that_comes_twice_is_traced_once(traced: Traced) -> None:
    """Every event of a call may come again at once, if the listener was added twice; no span is started in vain."""
    started: list[str] = []

    class Recorder(SpanProcessor):
        def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's names
            started.append(span.name)

    traced.provider.add_span_processor(Recorder())
    events: list[Event] = [
        AttemptStarted(1, "fetch", None, None, 1),
        AttemptFailed(1, "fetch", None, None, 1, ConnectionError(), None),
        GaveUp(1, "fetch", None, None, 1, 0.0, Reason.EXHAUSTED, ConnectionError()),
        CallFinished(1, "fetch", None, None, 1, ConnectionError()),
    ]
    for event in events:
        traced.spans(event)
        traced.spans(event)
    assert started == ["fetch", "fetch attempt"]
    assert [span.name for span in traced.exporter.get_finished_spans()] == ["fetch attempt", "fetch"]
    assert get_current_span() is INVALID_SPAN


def test_import_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its API is not installed, the import error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.opentelemetry")
    with pytest.raises(ImportError, match=r'needs opentelemetry-api: pip install "aiosupervise\[opentelemetry\]"$'):
        importlib.import_module("aiosupervise.integrations.opentelemetry")
