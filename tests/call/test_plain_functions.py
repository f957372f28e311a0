"""Plain functions under a policy: what is refused, how they wait, and what they do in threads, loops and batches."""

import asyncio
import functools
import gc
import inspect
import math
import sys
import threading
import time
import types
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

import aiosupervise
from aiosupervise import (
    Adaptive,
    Attempt,
    AttemptFailed,
    Budget,
    CallFinished,
    Overload,
    Policy,
    Reason,
    RetryAfter,
    attempt,
    listen,
    map_all,
    policy_of,
    run_all,
    supervise,
    verdict,
)
from aiosupervise._call import thread, wrappers
from aiosupervise._policy.checks import name_of
from aiosupervise.testing import no_waiting

from .forms import in_form

HOME = aiosupervise.__path__[0]
POLICY = Policy(retry_on=ConnectionError, backoff=[0])


class Loading:
    """A function that fails a number of times before it succeeds."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self, *args: object) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(self.calls)
        return f"loaded {args}"

    def load(self, *args: object) -> str:
        """Load it."""
        return self(*args)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each sleep, none of which takes time."""
    slept: list[float] = []
    fake = types.SimpleNamespace(sleep=slept.append, monotonic=lambda: 1000.0 + sum(slept))
    for module in (thread, wrappers):
        monkeypatch.setattr(module, "time", fake)
    return slept


# What can be supervised


@pytest.mark.parametrize(
    "make",
    [
        lambda loading: loading,
        lambda loading: loading.load,
        lambda loading: functools.partial(loading.load),
        lambda loading: lambda *args: str(loading(*args)),
    ],
    ids=["object", "method", "partial", "lambda"],
)
def test_functions_methods_partials_and_objects(make: Callable[[Loading], Callable[[int], str]]) -> None:
    """Each is retried, called with its arguments at each attempt, and stays what it is for who looks at it."""
    loading = Loading(2)
    func = make(loading)
    supervised = supervise(POLICY)(func)
    assert supervised(7) == "loaded (7,)"
    assert loading.calls == 3
    assert not inspect.iscoroutinefunction(supervised)
    assert inspect.signature(supervised) == inspect.signature(func)
    assert policy_of(supervised) is POLICY
    assert vars(supervised)["__wrapped__"] is func


def test_builtin_functions() -> None:
    """They have no code of their own, and a name all the same."""
    supervised = supervise(POLICY)(len)
    assert supervised([1, 2]) == 2
    assert supervised.__name__ == "len"


class Client:
    """A class with supervised methods."""

    @supervise(POLICY)
    def get(self, page: int) -> int:
        """Get it."""
        return page

    @classmethod
    @supervise(POLICY)
    def make(cls) -> "Client":
        return cls()

    async def fetch(self) -> str:
        return "fetched"

    def create(self) -> Awaitable[str]:
        """Return an awaitable, as the methods of many clients do."""
        return self.fetch()


def test_methods() -> None:
    """A supervised method is bound as the method is."""
    assert Client.make().get(3) == 3
    assert Client.get.__doc__ == "Get it."


def test_attempt_timeout_is_refused() -> None:
    """At decoration, with the reason and what to do."""
    rule = "attempt_timeout does not work with the plain function generic, since running synchronous code cannot"
    with pytest.raises(TypeError, match=rf"{rule} .*: set the timeout of the client .* write `async def generic`"):

        @supervise(retry_on=OSError, attempt_timeout=3)
        def generic() -> None: ...


# Awaitable results


@pytest.mark.parametrize("policy", [POLICY.replace(retry_on=Exception), POLICY.replace(budget=Budget())])
@pytest.mark.parametrize("failures", [0, 1])
def test_an_awaitable_result_is_refused(policy: Policy, failures: int) -> None:
    """It raises a TypeError that shows the async wrapper to write, and the coroutine is closed."""
    made: list[Any] = []

    class Service:
        def create(self) -> Awaitable[str]:
            if len(made) < failures:
                made.append(None)
                raise ConnectionError
            made.append(Client().fetch())
            return made[-1]  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match=r"create is a plain function, and it returned an awaitable") as raised:
        supervise(policy)(Service().create)()
    assert "`async def create(*args, **kwargs): return await service.create(*args, **kwargs)`" in str(raised.value)
    assert inspect.getcoroutinestate(made[-1]) == inspect.CORO_CLOSED
    assert verdict(raised.value) is None
    assert len(made) == failures + 1


class Later:
    """Awaitable, and no coroutine: there is nothing to close."""

    def __await__(self) -> Iterator[None]:
        yield


class ClosedBadly(Coroutine[object, None, None]):
    """A coroutine whose `close` fails."""

    def __await__(self) -> Generator[None, None, None]:
        yield

    def send(self, _: object) -> None: ...

    def throw(self, *_: object) -> None: ...

    def close(self) -> None:
        raise ValueError


@pytest.mark.parametrize("kind", [Later, ClosedBadly], ids=["Later", "ClosedBadly"])
def test_an_awaitable_that_cannot_be_closed(kind: Callable[[], object]) -> None:
    """It is refused by the same error."""
    make: Callable[[], object] = lambda: kind() or None  # noqa: E731 - a name that is no identifier
    text = rf"a value of type {name_of(kind)}, .*`async def call\(\*args, \*\*kwargs\): return await func\("
    with pytest.raises(TypeError, match=text):
        supervise(POLICY)(make)()


def fetch_later() -> Awaitable[str]:
    """Return an awaitable, as the functions of some clients do."""
    return Client().fetch()


class Api:
    """A client whose methods, of all kinds, return awaitables."""

    def __call__(self) -> Awaitable[str]:
        return fetch_later()

    def get(self) -> Awaitable[str]:
        return fetch_later()

    @classmethod
    def get_default(cls) -> Awaitable[str]:
        return fetch_later()


WRAPPERS: dict[str, tuple[Callable[[], object], str, str]] = {
    "function": (fetch_later, "call", "fetch_later"),
    "lambda": (lambda: fetch_later(), "call", "func"),  # noqa: PLW0108 - it has no name
    "object": (Api(), "call", "api"),
    "its __call__": (Api().__call__, "call", "api"),
    "method": (Api().get, "get", "api.get"),
    "class method": (Api.get_default, "get_default", "Api.get_default"),
    "partial": (functools.partial(functools.partial(Api().get)), "get", "api.get"),
    "builtin": (functools.partial(next, iter([Later()])), "call", "next"),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_the_wrapper_does_not_call_itself(kind: str) -> None:
    """It has another name than the function, unless that is a method, and calls it by a name that exists."""
    func, wrapper, call = WRAPPERS[kind]
    with pytest.raises(TypeError) as raised:
        supervise(POLICY)(func)()
    assert f"`async def {wrapper}(*args, **kwargs): return await {call}(*args, **kwargs)`" in str(raised.value)


# Promise 9: it costs nothing until something fails


def test_success_enters_one_function_of_the_library_and_allocates_no_object_of_it() -> None:
    """The wrapper itself is all that runs of this library when a plain policy's call succeeds."""
    entered: list[str] = []
    counts: list[int] = []

    def library_objects() -> int:
        return sum(str(type(thing).__module__).startswith("aiosupervise") for thing in gc.get_objects())

    @supervise(POLICY)
    def load() -> None:
        sys.setprofile(None)
        counts.append(library_objects())
        sys.setprofile(profile)

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            entered.append(frame.f_code.co_name)

    gc.collect()
    before = library_objects()
    sys.setprofile(profile)
    try:
        load()
    finally:
        sys.setprofile(None)
    assert entered == ["supervised"]
    assert counts == [before]


# Waiting


def test_waits_by_time_sleep(naps: list[float]) -> None:
    """A wait without seconds is none."""
    assert supervise(POLICY.replace(backoff=[1, 0, 4]))(Loading(3))() == "loaded ()"
    assert naps == [1, 4]


@pytest.mark.parametrize(
    "seconds",
    [1e10, 1e300, math.inf, 10**400, timedelta.max],
    ids=["1e10", "1e300", "infinite", "400 digits", "timedelta"],
)
def test_a_server_that_asks_for_centuries(seconds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call waits as long as `time.sleep` can, and no OverflowError takes the place of the error of the server."""
    slept: list[float] = []

    def sleep(wait: float) -> None:
        # The limit of the clock, in nanoseconds.
        assert int(wait * 1e9) < 2**63
        slept.append(wait)

    monkeypatch.setattr(thread, "time", types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    @supervise(retry_on=lambda _: seconds, max_retry_after=None, max_retries=1)
    def ask() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ask()
    assert slept == [100 * 365 * 24 * 3600]


def test_no_waiting_applies(naps: list[float]) -> None:
    """Inside of `no_waiting()` nothing sleeps, and the bound of retries counts."""
    with no_waiting(max_retries=1), pytest.raises(ConnectionError) as raised:
        supervise(POLICY.replace(backoff=[1, 2, 4]))(Loading(3))()
    assert naps == []
    given_up = verdict(raised.value)
    assert given_up is not None
    assert given_up.attempts == 2


def test_a_deadline_interrupts_nothing(naps: list[float]) -> None:
    """An attempt that ends after the deadline may still succeed; no wait begins that would end after it."""

    @supervise(POLICY.replace(deadline=5, backoff=[2]))
    def slow() -> str:
        naps.append(9)
        return "late"

    assert slow() == "late"
    naps.clear()
    with pytest.raises(ConnectionError) as raised:
        supervise(POLICY.replace(deadline=5, backoff=[2]))(Loading(9))()
    assert naps == [2, 2]
    given_up = verdict(raised.value)
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (3, Reason.DEADLINE)


def test_what_takes_its_time_after_the_decision_counts_for_the_deadline(naps: list[float]) -> None:
    """A listener that is slow leaves no time for the wait: it is not begun."""
    with (
        listen(lambda event: naps.append(4) if isinstance(event, AttemptFailed) else None),
        pytest.raises(ConnectionError) as raised,
    ):
        supervise(POLICY.replace(deadline=5, backoff=[2]))(Loading(9))()
    assert naps == [4]
    given_up = verdict(raised.value)
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (1, Reason.DEADLINE)


# In a thread that runs a loop


def retry_here(func: Callable[[], object]) -> None:
    func()


async def test_a_wait_that_blocks_a_loop_warns_once_for_each_place(naps: list[float]) -> None:
    """The warning names the function, the seconds and the repair, and is shown as from the code that calls it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seconds in (1, 2, 3):
            retry_here(supervise(POLICY.replace(backoff=[seconds]))(Loading(1)))
        supervise(POLICY.replace(backoff=[1], name="here"))(Loading(1))()
    assert [str(each.message) for each in caught] == [
        f"{name} waits 1 s before its next attempt, in a thread that runs an event loop, which is blocked meanwhile: "
        f"supervise an async function, or call it in a thread: await asyncio.to_thread(...)"
        for name in ("Loading", "here")
    ]
    assert {each.filename for each in caught} == {__file__}
    assert {each.category for each in caught} == {RuntimeWarning}
    assert naps == [1, 2, 3, 1]


async def test_the_warning_shows_the_repairs(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the function and the seconds, and shows both repairs."""
    monkeypatch.setattr(thread, "_blocking_lines", set())
    text = (
        r"^Loading waits 2 s before its next attempt, in a thread that runs an event loop, which is blocked meanwhile: "
        r"supervise an async function, or call it in a thread: await asyncio\.to_thread\(\.\.\.\)$"
    )
    with pytest.warns(RuntimeWarning, match=text):
        supervise(POLICY.replace(backoff=[2]))(Loading(1))()
    assert naps == [2]


async def test_the_warning_as_an_error_ends_the_call(naps: list[float]) -> None:
    """Each time, since no place is remembered that did not warn."""
    for _ in range(2):
        with pytest.raises(RuntimeWarning, match="Loading waits 1 s"):
            supervise(POLICY.replace(backoff=[1]))(Loading(1))()
    assert naps == []


async def test_no_warning_without_a_wait_or_a_loop(naps: list[float]) -> None:
    """Neither for a retry at once, nor in another thread."""
    assert supervise(POLICY)(Loading(1))() == "loaded ()"
    assert await asyncio.to_thread(supervise(POLICY.replace(backoff=[1]))(Loading(1))) == "loaded ()"
    assert naps == [1]


# In a batch


async def test_retries_in_a_job_are_counted() -> None:
    """In the loop's thread as in another one, and in another loop."""

    async def here() -> str:
        return supervise(POLICY)(Loading(2))()

    async def in_thread() -> str:
        return await asyncio.to_thread(supervise(POLICY)(Loading(2)))

    async def in_loop_of_thread() -> str:
        return await asyncio.to_thread(lambda: asyncio.run(here()))

    report = await run_all([here, in_thread, in_loop_of_thread])
    assert [outcome.attempts for outcome in report.succeeded] == [3, 3, 3]
    assert report.tally.retries == 6


async def test_retries_in_the_loops_thread_are_paid_by_the_run() -> None:
    """Those in another thread, or another loop, are not: such a call retries by itself."""
    budget = Budget()
    overload = Overload(budget=budget)

    async def tokens_after(call: Callable[[], object]) -> int:
        budget.tokens = 100

        async def job() -> int:
            result = call()
            if isinstance(result, Awaitable):
                await result
            return budget.tokens

        report = await run_all([job], overload=overload)
        return report.values()[0]

    func = supervise(POLICY)(Loading(1))
    assert await tokens_after(func) == 100  # the price of the retry that succeeded has come back
    seen: list[int] = []
    failing = Loading(1)

    @supervise(POLICY)
    def look() -> None:
        seen.append(budget.tokens)
        failing()

    await tokens_after(look)
    assert seen == [100, 86]
    seen.clear()
    failing.calls = 0
    await tokens_after(lambda: asyncio.to_thread(look))
    assert seen == [100, 100]
    seen.clear()
    failing.calls = 0

    async def look_here() -> None:
        look()

    await tokens_after(lambda: asyncio.to_thread(asyncio.run, look_here()))
    assert seen == [100, 100]


@pytest.mark.looptime
async def test_a_call_that_would_have_to_wait_for_the_run_gives_up() -> None:
    """While the run pauses, an async call waits in its queue; a plain one cannot, and would block the loop for ever."""
    calls = 0

    @supervise(POLICY.replace(max_retries=9))
    def load(_: int) -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    async def job(page: int) -> None:
        load(page)

    report = await map_all(job, range(3), overload=Overload(budget=Budget(capacity=0), probes=1))
    assert {failure.reason for failure in report.failed} == {Reason.BUDGET}
    assert calls == len(report.failed)


@pytest.mark.looptime
async def test_a_call_that_the_server_asked_to_wait_goes_on() -> None:
    """It waits by itself, and the run pauses for the others."""

    class BusyError(ConnectionError):
        retry_after = 0.0

    errors = [BusyError(), BusyError()]

    @supervise(POLICY.replace(backoff=[0]))
    def load() -> str:
        if errors:
            raise errors.pop()
        return "loaded"

    async def job() -> str:
        return load()

    report = await run_all([job], limit=Adaptive())
    assert [outcome.attempts for outcome in report.succeeded] == [3]


@pytest.mark.looptime
async def test_a_call_that_retries_while_the_run_ramps_up_goes_on() -> None:
    """It does not wait for its turn, which it could not."""
    busy = [RetryAfter(1)]

    @supervise(POLICY)
    async def fetch() -> None:
        if busy:
            raise busy.pop()

    async def job() -> str:
        await asyncio.sleep(1.1)
        return supervise(POLICY)(Loading(1))()

    report = await run_all([fetch, job])
    assert [outcome.attempts for outcome in report.succeeded] == [2, 2]


def test_a_gate_function_can_read_the_remaining_time() -> None:
    """The function runs within the call, where `attempt()` needs no event loop."""
    left: list[float | None] = []

    def gate_of() -> threading.Semaphore:
        left.append(attempt().time_left)
        return threading.Semaphore()

    supervise(POLICY.replace(deadline=100, gate=gate_of))(Loading(0))()
    assert left[0] is not None
    assert 0 < left[0] <= 100


@pytest.mark.parametrize("deadline", [None, 100])
def test_a_result_of_any_type_is_returned(deadline: float | None) -> None:
    """Only an awaitable is refused, even after a retry."""
    results: list[object] = [Loading(0), Loading(0)]
    failures = [ConnectionError()]

    @supervise(POLICY.replace(deadline=deadline))
    def load() -> object:
        if len(results) == 1 and failures:
            raise failures.pop()
        return results.pop()

    expected = results[::-1]
    assert [load(), load()] == expected


def test_a_gate_of_each_kind() -> None:
    """A policy takes both; a function checks that its own fits, at decoration or in the call."""

    async def fetch() -> None: ...

    def load(_: object = None) -> str:
        return "loaded"

    async_gate = POLICY.replace(gate=asyncio.Semaphore(3))
    plain_gate = POLICY.replace(gate=threading.Semaphore(3))
    with pytest.raises(
        TypeError,
        match=r"gate Semaphore is async, and load is not, .*: give .*threading.Semaphore.*, or write `async def load`$",
    ):
        supervise(async_gate)(load)
    with pytest.raises(
        TypeError, match=r"gate Semaphore is synchronous, .* the event loop of fetch: give .*asyncio.Sem"
    ):
        supervise(plain_gate)(fetch)
    assert supervise(plain_gate)(load)() == "loaded"
    by_argument = supervise(POLICY.replace(gate=lambda gate: gate))(load)
    assert by_argument(threading.Lock()) == "loaded"
    with pytest.raises(
        TypeError, match=r"gate <lambda> must return a synchronous context manager .* got <class 'async"
    ):
        by_argument(asyncio.Lock())


def test_threads_share_a_gate() -> None:
    """Each attempt holds a slot of it, and no wait does; another thread's slot is not the own one."""
    gate = threading.Semaphore(2)
    running: list[int] = []
    most: list[int] = []

    @supervise(POLICY.replace(gate=gate, max_retries=None))
    def load() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.001)
        running.pop()

    threads = [threading.Thread(target=load) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert max(most) <= 2
    assert len(most) == 8


@pytest.mark.parametrize("deadline", [None, 10.0])
async def test_attempt_in_a_plain_function(deadline: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives the number, the error before, and the time that is left, by the clock of plain functions."""
    answers: list[Attempt] = []

    @in_form("plain function", monkeypatch)(POLICY.replace(deadline=deadline, backoff=[1]))
    async def load() -> None:
        answers.append(attempt())
        if len(answers) < 3:
            raise ConnectionError(len(answers))

    await load()
    assert [(answer.number, str(answer.previous_error)) for answer in answers] == [(1, "None"), (2, "1"), (3, "2")]
    left = [None] * 3 if deadline is None else [pytest.approx(seconds, abs=0.5) for seconds in (10, 9, 8)]
    assert [answer.time_left for answer in answers] == left


def test_attempt_in_the_first_attempt_of_a_plain_policy() -> None:
    """Where nothing but the wrapper is around the function."""
    assert supervise(POLICY)(attempt)() == Attempt(1, None, None)


def test_events_without_a_loop() -> None:
    """They are the same, and so is a listener that fails: it is logged."""
    events: list[object] = []
    with listen(events.append):
        supervise(POLICY)(Loading(1))()
    assert [type(event).__name__ for event in events] == [
        "AttemptStarted",
        "AttemptFailed",
        "AttemptStarted",
        "Recovered",
        "CallFinished",
    ]
    with listen(events.append), pytest.raises(KeyboardInterrupt):
        supervise(POLICY)(interrupt)()
    assert isinstance(events[-1], CallFinished)
    assert isinstance(events[-1].error, KeyboardInterrupt)


def interrupt() -> None:
    raise KeyboardInterrupt


async def test_layers_of_both_kinds() -> None:
    """Three attempts, not nine, whether the async layer is the inner or the outer one."""
    loading = Loading(99)
    policy = POLICY.replace(max_retries=2)

    @supervise(policy)
    async def fetch() -> str:
        return supervise(policy)(loading)()

    with pytest.raises(ConnectionError):
        await fetch()
    assert loading.calls == 3

    @supervise(policy)
    async def fetch_failing() -> str:
        return loading()

    @supervise(policy)
    def load() -> str:
        return asyncio.run(fetch_failing())

    loading.calls = 0
    with pytest.raises(ConnectionError):
        await asyncio.to_thread(load)
    assert loading.calls == 3
