"""Reprs of errors, their attributes, and the arguments and inputs of calls are never shown."""

import asyncio
import io
import logging
import pickle
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from distributed import Client, LocalCluster
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.progress import Progress

from aiosupervise import (
    Budget,
    Event,
    JobFinished,
    Overload,
    Policy,
    Report,
    RetryAfter,
    RunPaused,
    Stopped,
    Supervisor,
    listen,
    map_all,
    policy_of,
    run_all,
    supervise,
)
from aiosupervise.integrations._dask import worker
from aiosupervise.integrations.aiohttp import is_transient
from aiosupervise.integrations.dask import DaskEngine
from aiosupervise.integrations.opentelemetry import Spans
from aiosupervise.integrations.prometheus import Metrics
from aiosupervise.integrations.rich import Bars
from aiosupervise.testing import Faults, script

# Made of parts, because tracebacks show lines of this file.
MARKER = str.join("-", ["hunter", "2"])


class LoudError(ConnectionError):
    """An error whose repr, arguments and attributes are secret, as those of HTTP clients are, and whose text is not."""

    def __init__(self, message: str = "refused") -> None:
        super().__init__(message, MARKER)
        self.message = message
        self.headers = {"Authorization": MARKER}
        self.request_info = (MARKER, self.headers)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"LoudError({self.args})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,)


class StuckError(LoudError):
    """One that cannot be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("no pickle")


class Secret:
    """An argument, an input or a result that is secret."""

    def __init__(self) -> None:
        self.key = MARKER

    def __repr__(self) -> str:
        return self.key


class StuckSecret(Secret):
    """One that cannot be pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise LoudError("no pickle")


class Shown:
    """All that is shown of what happens in a test, by place."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self.events: list[Event] = []
        self.warned: list[warnings.WarningMessage] = []
        self._texts: list[tuple[str, str]] = []
        self._caplog = caplog
        self._capfd = capfd
        self._exporter = InMemorySpanExporter()
        self._registry = CollectorRegistry()

    def listen(self, stack: ExitStack) -> None:
        """Export metrics and traces, and keep the events and warnings."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        for listener in (self.events.append, Spans(provider), Metrics(self._registry)):
            stack.enter_context(listen(listener))
        self._caplog.set_level(logging.INFO)
        self.warned = stack.enter_context(warnings.catch_warnings(record=True))

    def add(self, place: str, text: str) -> None:
        """Add a text that is shown."""
        self._texts.append((place, text))

    def add_error(self, error: BaseException) -> None:
        """Add an error as a traceback shows it: with its causes and notes."""
        self.add("traceback", "".join(traceback.format_exception(error)))

    def add_report(self, report: Report[Any, Any]) -> None:
        """Add the outcomes of a run, and the errors in them."""
        self.add("report", f"{report!r} {report[:]!r}")
        for failure in report.failed:
            self.add_error(failure.error)

    def texts(self) -> list[tuple[str, str]]:
        """Return all texts, each with its place."""
        read = self._capfd.readouterr()
        self._texts += [("stdout", read.out), ("stderr", read.err)]
        texts = [*self._texts]
        texts += [("event", repr(event)) for event in self.events]
        texts += [("warning", str(warning.message)) for warning in self.warned]
        texts += [("metrics", generate_latest(self._registry).decode())]
        texts += [("span", span.to_json()) for span in self._exporter.get_finished_spans()]
        formatter = logging.Formatter()
        for record in self._caplog.records:
            texts += [("line", formatter.format(record)), ("arguments", str(record.args))]
            if record.name.startswith("aiosupervise"):
                # A formatter shows `exc_info`, which holds the error itself, as the traceback in the line.
                shown = {name: value for name, value in vars(record).items() if name != "exc_info"}
                texts += [("attributes", str(shown))]
        return texts

    def hits(self) -> list[tuple[str, str]]:
        """Return the texts that quote a secret, each with the name of its output."""
        return [(output, text) for output, text in self.texts() if MARKER in text]

    def outputs_with(self, word: str) -> set[str]:
        """Return the outputs in which a word that is not secret appears."""
        return {output for output, text in self.texts() if word in text}


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Shown]:
    """Keep all that is shown."""
    shown = Shown(caplog, capfd)
    with ExitStack() as stack:
        shown.listen(stack)
        yield shown


# Calls


async def asks_for_much(*_: object, **__: object) -> None:
    """Fail as a server does that asks for an hour."""
    raise RetryAfter(3600) from LoudError()


async def never_ends(*_: object, **__: object) -> None:
    """Hang."""
    await asyncio.Event().wait()


def failing(*errors: Exception) -> Callable[..., Coroutine[Any, Any, object]]:
    """Return a function that raises each of these, then returns."""
    left = [*errors]

    async def fetch(*_: object, **__: object) -> None:
        if left:
            raise left.pop(0)

    return fetch


def both(*errors: Exception) -> Exception:
    """Return a group."""
    return ExceptionGroup("both failed", errors)


def twice() -> list[Exception]:
    """Return two errors."""
    return [LoudError(), LoudError()]


POLICY = Policy(retry_on=LoudError, max_retries=1, backoff=[2.0])


def empty() -> Budget:
    """Return a budget that pays for nothing."""
    return Budget(capacity=0)


WRONG: Any = lambda *_: Secret()  # noqa: E731 - it has no name to be shown

CALLS: dict[str, Callable[[], tuple[Policy, Callable[..., Coroutine[Any, Any, object]]]]] = {
    "retried": lambda: (POLICY, failing(LoudError())),
    "retries exhausted": lambda: (POLICY, failing(*twice())),
    "irrecoverable": lambda: (POLICY.replace(irrecoverable=LoudError), failing(LoudError())),
    "unlisted": lambda: (POLICY.replace(retry_on=TimeoutError), failing(LoudError())),
    "unlisted after others": lambda: (POLICY.replace(max_retries=9), failing(*twice(), ValueError())),
    "no wait before the deadline": lambda: (POLICY.replace(deadline=1), failing(*twice())),
    "interrupted by the deadline": lambda: (POLICY.replace(deadline=5, max_retries=None), script_then_hang()),
    "attempts too long": lambda: (POLICY.replace(attempt_timeout=1, retry_on=TimeoutError), never_ends),
    "budget": lambda: (POLICY.replace(budget=empty()), failing(*twice())),
    "retry-after too long": lambda: (POLICY, asks_for_much),
    "a wrong answer": lambda: (POLICY.replace(retry_on=WRONG), failing(LoudError())),
    "a wrong delay": lambda: (POLICY.replace(backoff=WRONG), failing(LoudError())),
    "groups": lambda: (POLICY, failing(both(*twice()), both(*twice()))),
}


def script_then_hang() -> Callable[..., Coroutine[Any, Any, object]]:
    """Return a function that fails once, then hangs."""
    first = failing(LoudError())
    left = [first]

    async def fetch(*args: object, **keywords: object) -> object:
        return await (left.pop() if left else never_ends)(*args, **keywords)

    return fetch


@pytest.mark.looptime
@pytest.mark.parametrize("case", CALLS)
async def test_a_call_shows_no_secret(case: str, shown: Shown) -> None:
    """However it ends, nothing quotes its arguments, the repr of its errors or their attributes."""
    policy, func = CALLS[case]()
    try:
        decorate: Any = supervise(policy)
        await decorate(func)(Secret(), token=Secret())
    except Exception as error:
        shown.add_error(error)
    assert {"event", "span", "metrics"} <= {place for place, text in shown.texts() if text}
    assert shown.hits() == []


@pytest.mark.looptime
async def test_an_argument_that_was_used_up(shown: Shown) -> None:
    """The note names the generator and not what it holds."""

    def lines(_: object) -> Generator[object]:
        yield from range(9)

    @supervise(POLICY)
    async def send(body: Generator[object], _: object) -> None:
        next(body)
        raise LoudError

    with pytest.raises(LoudError) as caught:
        await send(lines(Secret()), Secret())
    shown.add_error(caught.value)
    assert "refused" in str(shown.texts())
    assert shown.hits() == []


# Batches


@supervise(POLICY)
async def fetch(item: object) -> None:
    """Fail, and be retried."""
    await asyncio.sleep(1)
    raise LoudError(f"refused {type(item).__name__}")


@pytest.mark.looptime
@pytest.mark.parametrize("early", ["to its end", "timeout", "cancel", "max_failures"])
@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_batch_shows_no_secret(strategy: Any, early: str, shown: Shown, *, streamed: bool) -> None:
    """Neither with failures nor with pending jobs, in any strategy, awaited or streamed, with bars of both kinds."""
    file = io.StringIO()
    with Progress(console=Console(file=file, width=200), auto_refresh=False) as progress:
        run = map_all(
            fetch,
            [Secret() for _ in range(6)],
            strategy=strategy,
            limit=2,
            timeout=5 if early == "timeout" else None,
            max_failures=1 if early == "max_failures" else None,
            progress=True,
            listen=Bars(progress),
        )
        task = asyncio.create_task(outcomes_of(run, shown, streamed=streamed))
        await asyncio.sleep(6.5)
        if early == "cancel":
            task.cancel()
        await asyncio.wait([task])
    assert task.cancelled() == (early == "cancel")
    shown.add("rich", file.getvalue())
    shown.add_report(run.report)
    assert {type(event.outcome).__name__ for event in shown.events if isinstance(event, JobFinished)} == (
        {"Failure"} if early == "to its end" else {"Failure", "Pending"}
    )
    assert {"line", "event", "span", "rich", "stderr"} <= shown.outputs_with("fetch")
    assert shown.hits() == []


async def outcomes_of(run: Any, shown: Shown, *, streamed: bool) -> None:
    """Await or read a run."""
    if not streamed:
        await run
        return
    async with run:
        async for outcome in run:
            shown.add("outcome", repr(outcome))


async def refuse(_: object) -> None:
    """Fail without a policy."""
    raise LoudError


@pytest.mark.looptime
async def test_a_run_that_its_probes_stop(shown: Shown) -> None:
    """The pauses, the warning and the pending outcomes."""
    overload = Overload(budget=empty(), probes=2)
    run = run_all([partial(fetch, Secret()) for _ in range(40)], limit=4, overload=overload)
    shown.add_report(await run)
    assert run.report.stopped is Stopped.PROBES
    assert any(isinstance(event, RunPaused) for event in shown.events)
    assert shown.hits() == []


@pytest.mark.looptime
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_source_that_fails(shown: Shown, *, is_cancelled: bool) -> None:
    """Its error is the caller's; if the caller is cancelled as well, a note names it."""

    def source() -> Iterator[object]:
        yield Secret()
        raise LoudError("out of pages")

    task = asyncio.ensure_future(map_all(fetch, source(), limit=2))
    await asyncio.sleep(0.5)
    if is_cancelled:
        task.cancel()
    with pytest.raises((LoudError, asyncio.CancelledError)) as caught:
        await task
    shown.add_error(caught.value)
    assert "out of pages" in str(shown.texts())
    assert shown.hits() == []


class LoudListener:
    """A listener that fails, and whose repr is secret."""

    def __call__(self, _: Event) -> None:
        raise LoudError("no disk")

    def __repr__(self) -> str:
        return MARKER


@pytest.mark.looptime
async def test_a_listener_that_fails(shown: Shown) -> None:
    """The report to the loop's exception handler names its type, and the text of the error."""
    shown.add_report(await map_all(fetch, [Secret()], listen=LoudListener()))
    assert "a listener failed: LoudListener" in str(shown.texts())
    assert shown.hits() == []


async def take(_: object) -> None:
    """Return at once."""


async def test_debug_mode(shown: Shown) -> None:
    """asyncio logs slow callbacks with the reprs of tasks and their callbacks: these hold no input."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    shown.add_report(await map_all(take, [Secret(), Secret()]))
    shown.add_report(await run_all([partial(take, Secret()), take(Secret())]))
    assert "LocalJob.finish" in str(shown.texts())
    assert shown.hits() == []


async def supervised(*funcs: Callable[[Secret], Coroutine[Any, Any, None]]) -> None:
    """Keep these alive."""
    async with Supervisor(max_restarts=2, within=60, backoff=[0], name="web") as supervisor:
        for func in funcs:
            supervisor.start(func, Secret())


@pytest.mark.looptime
async def test_a_supervisor_shows_no_secret(shown: Shown) -> None:
    """Its children fail, are restarted, fail in their clean-up, and make it give up."""

    async def fails(_: object) -> None:
        await asyncio.sleep(1)
        raise LoudError

    async def fails_to_clean_up(_: object) -> None:
        try:
            await never_ends()
        finally:
            raise LoudError("no clean-up")

    with pytest.raises(ExceptionGroup) as caught:
        await supervised(fails, fails_to_clean_up)
    shown.add_error(caught.value)
    assert {"line", "event", "traceback"} <= shown.outputs_with("LoudError")
    assert shown.hits() == []


# Mistakes


def returns_it(_: object) -> Any:
    """Return something other than an awaitable."""
    return Secret()


anything: Any = Secret()
loud: Any = LoudError()
MISTAKES: list[Callable[[], object]] = [
    lambda: supervise(anything),
    lambda: supervise(loud),
    lambda: supervise(retry_on=anything),
    lambda: supervise(retry_on=loud),
    lambda: supervise(retry_on=(OSError, loud)),
    lambda: supervise(retry_on=OSError, irrecoverable=loud),
    lambda: supervise(POLICY)(anything),
    lambda: policy_of(anything),
    lambda: RetryAfter(anything),
    *(
        partial(lambda name: supervise(retry_on=OSError, **{name: anything}), name)
        for name in (
            *("irrecoverable", "max_retries", "attempt_timeout", "deadline", "max_retry_after", "backoff", "budget"),
            *("gate", "name"),
        )
    ),
    lambda: listen(anything),
    lambda: run_all(anything),
    lambda: map_all(anything, [1]),
    lambda: map_all(loud, [1]),
    lambda: map_all(take, anything),
    lambda: map_all(take, MARKER),
    *(
        partial(lambda name: map_all(take, [1], **{name: anything}), name)
        for name in (
            *("strategy", "limit", "timeout", "progress", "overload", "max_failures", "total", "listen", "stop_on"),
            *("name", "engine"),
        )
    ),
    lambda: map_all(take, [1], strategy="wait", return_when=anything),
    lambda: map_all(take, [1], stop_on=[anything]),
    lambda: map_all(take, [1], progress={anything: 1}),  # type: ignore[call-overload]
    lambda: map_all(take, [1], progress={"desc": anything}),
    lambda: Overload(budget=anything),
    lambda: Overload(when_exhausted=anything),
    lambda: Budget(capacity=anything),
    lambda: Supervisor(max_restarts=anything),
    lambda: Supervisor(name=anything),
    lambda: Supervisor(strategy=anything),
    lambda: Bars(anything),
    lambda: DaskEngine(anything),
    lambda: DaskEngine("tcp://127.0.0.1:1", chunk=anything),
    lambda: Faults(anything, seed=1),
    lambda: Faults(0.1, loud, seed=1),
    lambda: Faults(0.1, anything, seed=1),
    lambda: Faults(0.1, seed=1)(anything),
    lambda: asyncio.run(awaited(run_all([partial(take, 1), anything]))),
    lambda: asyncio.run(awaited_values(map_all(script_of(returns_it), [anything]))),
    lambda: asyncio.run(called(script())),
    lambda: asyncio.run(called(supervise(retry_on=OSError, gate=lambda *_, **__: anything)(take_all))),
]


def script_of(func: Callable[[object], Any]) -> Any:
    """Return an object that looks like an async function, and returns what a plain function returns."""

    class Call:
        async def __call__(self, item: object) -> None: ...

    call = Call()
    call.__class__.__call__ = lambda _, item: func(item)  # type: ignore[assignment,method-assign]
    return call


async def awaited(run: Any) -> None:
    """Await a run."""
    await run


async def awaited_values(run: Any) -> None:
    """Await a run, and raise the error of its first job."""
    report = await run
    raise report[0].error


async def take_all(*_: object, **__: object) -> None:
    """Return at once."""


async def called(fetch: Any) -> None:
    """Call a function that refuses the call."""
    await fetch(Secret(), token=Secret())


@pytest.mark.parametrize("mistake", MISTAKES, ids=range(len(MISTAKES)))
def test_a_message_shows_no_secret(mistake: Callable[[], object]) -> None:
    """The error for a wrong argument, job, input or result names its type at most."""
    with pytest.raises(BaseException, match=r"\w") as caught:
        mistake()
    assert not isinstance(caught.value, AssertionError)
    assert MARKER not in "".join(traceback.format_exception(caught.value))


# Clients and clusters


@asynccontextmanager
async def busy_server() -> AsyncIterator[str]:
    """A server that is always overloaded."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_the_headers_of_a_request(shown: Shown) -> None:
    """The repr of aiohttp's ClientResponseError holds the headers of the request: they are shown nowhere."""

    @supervise(retry_on=is_transient, max_retries=2, backoff=[0])
    async def get(url: str, session: aiohttp.ClientSession) -> None:
        async with session.get(url) as response:
            response.raise_for_status()

    async with busy_server() as url, aiohttp.ClientSession(headers={"Authorization": f"Bearer {MARKER}"}) as session:
        report = await map_all(partial(get, session=session), [url])
    assert MARKER in repr(report[0].error)  # type: ignore[union-attr]  # it is a Failure
    shown.add_report(report)
    assert {"line", "event", "span", "report", "traceback"} <= shown.outputs_with("ClientResponseError")
    assert shown.hits() == []


@pytest.fixture
async def cluster() -> AsyncIterator[Client]:
    """A client of a cluster that is all in this process and loop."""
    settings: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    async with (
        LocalCluster(processes=False, asynchronous=True, **settings) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
    ):
        yield client


async def on_a_worker(item: "tuple[str, Secret]") -> object:
    """End in one of the ways that are hard to send."""
    match item[0]:
        case "error":
            raise LoudError
        case "retried":
            decorate: Any = supervise(POLICY.replace(backoff=[0]))
            await decorate(failing(*twice()))(item)
        case "error that cannot be pickled":
            raise StuckError
        case "result that cannot be pickled":
            return StuckSecret()
    return None


async def test_the_jobs_of_a_cluster(cluster: Client, shown: Shown) -> None:
    """Errors and results that can or cannot be pickled, and the notes with the tracebacks of the worker."""
    kinds = ["error", "retried", "error that cannot be pickled", "result that cannot be pickled"]
    report = await map_all(on_a_worker, [(kind, Secret()) for kind in kinds], engine=DaskEngine(cluster))
    assert len(report.failed) == len(kinds)
    shown.add_report(report)
    assert {"event", "report", "traceback"} <= shown.outputs_with("refused")
    # The worker is in this process, and the event of a job that returned has its value.
    assert [(place, text) for place, text in shown.hits() if "outcome=Success(" not in text] == []


@pytest.mark.parametrize("is_held", [True, False])
async def test_an_input_that_cannot_be_pickled(cluster: Client, shown: Shown, *, is_held: bool) -> None:
    """The message names its type, and the text of pickle's error."""
    inputs: Any = [("none", StuckSecret())]
    with pytest.raises(
        TypeError, match=r"input 0 cannot be pickled.*LoudError: no pickle; it is of type tuple"
    ) as caught:
        await map_all(on_a_worker, inputs if is_held else iter(inputs), engine=DaskEngine(cluster))
    shown.add_error(caught.value)
    assert shown.hits() == []


async def test_a_function_that_cannot_be_pickled(cluster: Client, shown: Shown) -> None:
    """The message names the function, and not what is bound to it."""
    with pytest.raises(TypeError, match=r"on_a_worker cannot be pickled.*LoudError: no pickle") as caught:
        map_all(partial(on_a_worker, StuckSecret()), [1], engine=DaskEngine(cluster))  # type: ignore[arg-type]
    shown.add_error(caught.value)
    assert shown.hits() == []


async def test_a_task_that_fails_on_a_worker(cluster: Client, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask logs a line about the task, in which our settings and inputs, bytes that can be read, have no place."""
    logger = logging.getLogger("distributed.worker")
    monkeypatch.setattr(logger, "propagate", True)

    arguments: list[bytes] = []

    def broken(inputs: bytes) -> object:
        arguments.append(inputs)
        raise ImportError("no such module")

    monkeypatch.setattr(worker, "deserialize", broken)
    bound = partial(on_a_worker_of, "tcp://db", Secret())
    shown.add_report(await map_all(bound, [("none", Secret())], engine=DaskEngine(cluster)))
    assert "line" in shown.outputs_with("Compute Failed")
    assert [MARKER.encode() in one for one in arguments] == [True]
    assert shown.hits() == []


async def on_a_worker_of(_: str, __: object, item: "tuple[str, Secret]") -> object:
    """Do the same with arguments that are bound."""
    return await on_a_worker(item)


async def test_settings_that_a_worker_cannot_load(cluster: Client, shown: Shown) -> None:
    """Dask logs the repr of the error of a task: it is ours, with the text of the error that was raised."""
    client: Any = cluster
    settings, inputs = pickle.dumps(Unloadable()), pickle.dumps([])
    with pytest.raises(Exception, match="no settings") as caught:
        await client.submit(worker.run_chunk, "key", "run", settings, inputs, key="key")
    shown.add("repr", repr(caught.value))
    shown.add_error(caught.value)
    assert shown.hits() == []


class Unloadable:
    """Cannot be unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return cannot_be_made, ()


def cannot_be_made() -> object:
    """Raise."""
    raise LoudError("no settings")
