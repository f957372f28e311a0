"""One supervised call: who decides, cancellation and exit, the caller's error, and the state of calls."""

import asyncio
import functools
import gc
import inspect
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import get_type_hints
from unittest.mock import create_autospec

import pytest

import aiosupervise
from aiosupervise import Backoff, GiveUp, Policy, Reason, RetryAfter, policy_of, supervise, verdict

from .endings import error_of
from .forms import Supervise, now, only_async, only_async_functions, pass_time

NO_WAIT = Backoff(0)
HOME = aiosupervise.__path__[0]

Ends = str | BaseException | type[BaseException]


class Script:
    """A function whose attempts end as listed: an error is raised, a text returned; the last end repeats."""

    def __init__(self, *ends: Ends) -> None:
        self.ends = ends
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(now())
        end = self.ends[min(len(self.times), len(self.ends)) - 1]
        if isinstance(end, str):
            return end
        raise end


def library_frames(trace: TracebackType | None) -> int:
    """Return the number of frames of a traceback that are in this library."""
    frames = [frame for frame, _ in traceback.walk_tb(trace)]
    return sum(frame.f_code.co_filename.startswith(HOME) for frame in frames)


# Promise 1: who decides


async def test_success_at_once(supervise: Supervise) -> None:
    """A call that succeeds is made once, and the caller gets its value."""
    script = Script("done")
    assert await supervise(retry_on=ConnectionError)(script)() == "done"
    assert len(script.times) == 1


@pytest.mark.parametrize("limit", [None, 60.0], ids=["plain", "guarded"])
async def test_arguments_reach_every_attempt(limit: float | None, supervise: Supervise) -> None:
    """Each attempt gets the same arguments, by position and by name."""
    seen: list[tuple[int, int]] = []

    @supervise(retry_on=ConnectionError, backoff=NO_WAIT, attempt_timeout=limit)
    async def func(a: int, *, b: int) -> int:
        seen.append((a, b))
        if len(seen) < 3:
            raise ConnectionError
        return a + b

    assert await func(1, b=2) == 3
    assert seen == [(1, 2)] * 3


@pytest.mark.parametrize(
    "retry_on",
    [ConnectionError, OSError, (KeyError, ConnectionError), lambda error: isinstance(error, ConnectionError)],
    ids=["class", "base class", "tuple", "predicate"],
)
async def test_listed_errors_are_retried(retry_on: type[Exception], supervise: Supervise) -> None:
    """Errors that retry_on matches, in each of its forms, are retried until the call succeeds."""
    script = Script(ConnectionResetError, ConnectionResetError, "done")
    assert await supervise(retry_on=retry_on, backoff=NO_WAIT)(script)() == "done"
    assert len(script.times) == 3


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_unlisted_errors_pass_through(before: int, supervise: Supervise) -> None:
    """An error that the policy does not list passes through without a verdict; a note lists earlier failures."""
    error = ValueError("a bug")
    script = Script(*[ConnectionError] * before, error)
    assert await error_of(supervise(retry_on=ConnectionError, backoff=NO_WAIT)(script)()) is error
    assert len(script.times) == before + 1
    assert verdict(error) is None
    lines = [f"\n  attempt {n}: ConnectionError" for n in range(1, before + 1)]
    head = f"passed on from attempt {before + 1}, after retries of other errors"
    assert getattr(error, "__notes__", []) == ([head + "".join(lines)] if before else [])
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_irrecoverable_wins_over_retry_on(supervise: Supervise) -> None:
    """An error that is both transient and irrecoverable is not retried."""
    script = Script(ConnectionRefusedError)
    func = supervise(retry_on=ConnectionError, irrecoverable=ConnectionRefusedError, backoff=NO_WAIT)(script)
    error = await error_of(func())
    given_up = verdict(error)
    assert len(script.times) == 1
    assert given_up is not None
    assert given_up.reason is Reason.IRRECOVERABLE


async def test_give_up_with_a_cause(supervise: Supervise) -> None:
    """`raise GiveUp from error` ends the call at once, and the caller gets that error, with its verdict."""
    cause = ConnectionError("no such account")
    attempts = 0

    @supervise(retry_on=Exception, backoff=NO_WAIT)
    async def func() -> None:
        nonlocal attempts
        attempts += 1
        raise GiveUp from cause

    assert await error_of(func()) is cause
    assert (cause.__cause__, cause.__context__) == (None, None)
    assert attempts == 1
    given_up = verdict(cause)
    assert given_up is not None
    assert given_up.reason is Reason.IRRECOVERABLE


async def test_give_up_with_a_context(supervise: Supervise) -> None:
    """Without a cause, GiveUp stands for the error that was being handled."""
    handled = ConnectionError("gone")

    @supervise(retry_on=ConnectionError, backoff=NO_WAIT)
    async def func() -> None:
        try:
            raise handled
        except ConnectionError:
            raise GiveUp  # noqa: B904 - the case in question

    assert await error_of(func()) is handled


@pytest.mark.parametrize("overruling", [GiveUp("enough"), RetryAfter(0)], ids=repr)
async def test_overruling_errors_alone(overruling: Exception, supervise: Supervise) -> None:
    """The caller gets a GiveUp or RetryAfter that stands for no other error."""
    func = supervise(retry_on=ConnectionError, max_retries=0)(Script(overruling))
    assert await error_of(func()) is overruling
    assert verdict(overruling) is not None


async def test_retry_after_retries_an_unlisted_error(supervise: Supervise) -> None:
    """RetryAfter retries even an error that retry_on does not list, and uses up a retry each time."""
    cause = ValueError("busy")
    attempts = 0

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=NO_WAIT)
    async def func() -> None:
        nonlocal attempts
        attempts += 1
        raise RetryAfter(0) from cause

    assert await error_of(func()) is cause
    assert attempts == 3
    given_up = verdict(cause)
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (3, Reason.EXHAUSTED)


async def test_irrecoverable_wins_over_retry_after(supervise: Supervise) -> None:
    """A RetryAfter that stands for an irrecoverable error does not retry it, and the caller gets that error."""
    cause = PermissionError()

    @supervise(retry_on=ConnectionError, irrecoverable=PermissionError)
    async def func() -> None:
        raise RetryAfter(0) from cause

    assert await error_of(func()) is cause
    given_up = verdict(cause)
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (1, Reason.IRRECOVERABLE)


# Promise 2: groups


async def test_group_of_transient_errors_is_retried(supervise: Supervise) -> None:
    """A group whose leaves are all transient, at any depth, is retried."""
    group = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [TimeoutError(), ConnectionError()])])
    script = Script(group, "done")
    assert await supervise(retry_on=(ConnectionError, TimeoutError), backoff=NO_WAIT)(script)() == "done"


async def test_group_with_an_unlisted_leaf_passes_untouched(supervise: Supervise) -> None:
    """A group with one unlisted leaf passes through, like an unlisted error."""
    group = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [KeyError()])])
    script = Script(group)
    assert await error_of(supervise(retry_on=ConnectionError)(script)()) is group
    assert len(script.times) == 1
    assert verdict(group) is None


async def test_group_with_an_irrecoverable_leaf_gives_up(supervise: Supervise) -> None:
    """A group with one irrecoverable leaf gives up at once; the caller gets the whole group."""
    group = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [KeyError()])])
    func = supervise(retry_on=ConnectionError, irrecoverable=KeyError)(Script(group))
    assert await error_of(func()) is group
    given_up = verdict(group)
    assert given_up is not None
    assert given_up.reason is Reason.IRRECOVERABLE


# Promise 3 and law R2: cancellation and exit


EXITS = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]
PLAIN = Policy(retry_on=lambda _: True, backoff=NO_WAIT)
POLICIES = [PLAIN, PLAIN.replace(attempt_timeout=9, deadline=99), PLAIN.replace(gate=asyncio.Semaphore())]


@pytest.mark.parametrize("policy", POLICIES, ids=["plain", "timed", "gated"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("kind", EXITS)
async def test_cancellation_and_exit_pass_through(
    kind: type[BaseException], before: int, policy: Policy, supervise: Supervise
) -> None:
    """Cancellation and exit are never caught, in any attempt or by any predicate: same object, no note."""
    left = kind()
    script = Script(*[ConnectionError] * before, left)
    with pytest.raises(kind) as caught:
        await supervise(policy)(script)()
    assert caught.value is left
    assert len(script.times) == before + 1
    assert not hasattr(left, "__notes__")


async def test_group_with_an_exit_passes_through(supervise: Supervise) -> None:
    """A group that contains an exit beside errors is treated as an exit."""
    group = BaseExceptionGroup("", [ConnectionError(), SystemExit()])
    with pytest.raises(BaseExceptionGroup) as caught:
        await supervise(PLAIN)(Script(group))()
    assert caught.value is group


@only_async
@pytest.mark.looptime
@pytest.mark.parametrize("policy", POLICIES[:2], ids=["plain", "timed"])
async def test_cancel_during_the_wait_ends_the_call_at_once(policy: Policy, supervise: Supervise) -> None:
    """A cancel during the backoff ends the call immediately, without a further attempt."""
    script = Script(ConnectionError)
    task = asyncio.create_task(supervise(policy.replace(backoff=[30]))(script)())
    loop = asyncio.get_running_loop()
    started = loop.time()
    loop.call_later(5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - started == pytest.approx(5)
    assert len(script.times) == 1


@only_async
async def test_call_closed_during_the_wait(supervise: Supervise) -> None:
    """A call whose coroutine is closed during the wait makes no further attempt."""
    script = Script(ConnectionError)
    call = supervise(PLAIN)(script)()
    call.send(None)
    assert len(script.times) == 1
    call.close()
    assert len(script.times) == 1


@only_async
@pytest.mark.looptime
@pytest.mark.parametrize("policy", POLICIES[:2], ids=["plain", "timed"])
async def test_timeout_around_a_call_that_keeps_failing(policy: Policy, supervise: Supervise) -> None:
    """`asyncio.timeout` around a call without an end raises its TimeoutError in time, and nothing stays cancelled."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await supervise(policy.replace(max_retries=None, backoff=[0.001]))(Script(ConnectionError))()
    assert type(caught.value) is TimeoutError
    assert loop.time() - started == pytest.approx(0.05)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@only_async
async def test_call_without_waits_can_be_cancelled(supervise: Supervise) -> None:
    """A call that retries without any wait yields to the event loop at each retry, so that a cancel arrives."""
    script = Script(ConnectionError)
    task = asyncio.create_task(supervise(PLAIN.replace(max_retries=None))(script)())
    for _ in range(10):  # turns of the loop
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 5 <= len(script.times) <= 11


# Promise 4: max_retries


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_max_retries_counts_retries(retries: int, supervise: Supervise) -> None:
    """3 means at most 4 attempts, and 0 means one."""
    script = Script(ConnectionError)
    error = await error_of(supervise(retry_on=ConnectionError, max_retries=retries, backoff=NO_WAIT)(script)())
    given_up = verdict(error)
    assert len(script.times) == retries + 1
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (retries + 1, Reason.EXHAUSTED)


async def test_three_retries_by_default(supervise: Supervise) -> None:
    """Without the argument, three retries are made."""
    script = Script(ConnectionError)
    await error_of(supervise(retry_on=ConnectionError, backoff=NO_WAIT)(script)())
    assert len(script.times) == 4


async def test_no_limit_of_retries(supervise: Supervise) -> None:
    """None means no limit."""
    script = Script(*[ConnectionError] * 300, "done")
    func = supervise(retry_on=ConnectionError, max_retries=None, backoff=NO_WAIT)(script)
    assert await func() == "done"
    assert len(script.times) == 301


# Promise 7: the caller's own error


GUARDED = Policy(retry_on=ConnectionError, backoff=NO_WAIT, attempt_timeout=9, deadline=99, gate=asyncio.Semaphore())


@pytest.mark.parametrize("policy", [GUARDED, Policy(retry_on=ConnectionError, backoff=NO_WAIT)])
@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("kind", [ConnectionError, ValueError])
async def test_at_most_two_library_frames(
    kind: type[Exception], retries: int, policy: Policy, supervise: Supervise
) -> None:
    """A traceback goes from the caller over at most two frames of this library into the user's function."""
    script = Script(*[ConnectionError] * retries, kind)
    error = await error_of(supervise(policy.replace(max_retries=retries))(script)())
    assert library_frames(error.__traceback__) <= 2
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "__call__"


async def test_two_library_frames_for_an_error_raised_again(supervise: Supervise) -> None:
    """One error object that every attempt raises, such as a failed future's, still shows two library frames."""
    error = await error_of(supervise(retry_on=ConnectionError, backoff=NO_WAIT)(Script(ConnectionError("cached")))())
    assert library_frames(error.__traceback__) <= 2


async def test_error_out_of_a_deep_recursion(supervise: Supervise) -> None:
    """An error whose traceback is as long as the interpreter allows reaches the caller as it is."""
    raised: list[RecursionError] = []

    def fall() -> None:
        fall()

    @supervise(retry_on=ConnectionError)
    async def func() -> None:
        try:
            fall()
        except RecursionError as error:
            raised.append(error)
            raise

    assert await error_of(func()) is raised[0]


async def test_last_error_same_object_cause_untouched(supervise: Supervise) -> None:
    """The caller gets the last error itself, with the cause and the context that the function gave it."""
    cause = KeyError("why")
    errors: list[ConnectionError] = []

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    async def func() -> None:
        errors.append(ConnectionError(len(errors)))
        raise errors[-1] from cause

    error = await error_of(func())
    assert error is errors[1]
    assert error.__cause__ is cause
    assert error.__context__ is None


async def test_attempts_do_not_become_each_others_context(supervise: Supervise) -> None:
    """Each attempt runs outside of any except block: earlier errors do not become the context of its error."""
    error = await error_of(supervise(retry_on=ConnectionError, backoff=NO_WAIT)(Script(ConnectionError))())
    assert error.__context__ is None


async def test_context_of_the_error_where_the_caller_handles_another(supervise: Supervise) -> None:
    """A call made while the caller handles some error keeps the context that the function's own error had."""

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def func() -> None:
        try:
            int("why")
        except ValueError:
            raise ConnectionError  # noqa: B904 - the case in question

    theirs = None
    try:
        float("the caller's")
    except ValueError as handled:
        theirs = handled
        error = await error_of(func())
    assert isinstance(error.__context__, ValueError)
    assert error.__context__ is not theirs


async def test_an_error_that_the_caller_handles_keeps_its_traceback(supervise: Supervise) -> None:
    """A call that waits drops the frames of its own errors, but not of errors that the caller may still print."""

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    async def func() -> None:
        raise ConnectionError from LookupError()

    traceback = None
    try:
        float("the caller's")
    except ValueError as handled:
        await error_of(func())
        traceback = handled.__traceback__
    assert traceback is not None


# Promise 8: layers do not multiply


def layered(
    supervise: Supervise, leaf: Callable[[], Coroutine[object, None, str]], layers: int, limit: float | None
) -> Callable[[], Coroutine[object, None, str]]:
    """The function under several nested policies, with functions of the user between them."""
    policy = Policy(retry_on=ConnectionError, max_retries=2, backoff=NO_WAIT, attempt_timeout=limit, deadline=limit)
    func = leaf
    for _ in range(layers):
        inner = func

        async def call(inner: Callable[[], Coroutine[object, None, str]] = inner) -> str:
            return await inner()

        func = supervise(policy)(call)
    return func


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("limit", [None, 60.0], ids=["plain", "guarded"])
async def test_layers_do_not_multiply(layers: int, limit: float | None, supervise: Supervise) -> None:
    """Three layers of three attempts make three leaf calls, not 27."""
    script = Script(ConnectionError)
    error = await error_of(layered(supervise, script, layers, limit)())
    assert len(script.times) == 3
    given_up = verdict(error)
    assert given_up is not None
    assert given_up.attempts == 3
    assert len(error.__notes__) == 1


@only_async
async def test_layers_do_not_multiply_through_a_task_group(supervise: Supervise) -> None:
    """An error on which an inner call gave up is not retried by the outer one, even in a group from a child task."""
    script = Script(ConnectionError)
    inner = supervise(retry_on=ConnectionError, max_retries=2, backoff=NO_WAIT)(script)

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=NO_WAIT)
    async def outer() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    assert isinstance(await error_of(outer()), ExceptionGroup)
    assert len(script.times) == 3


async def test_an_inner_call_that_gave_up_is_found_behind_an_error_that_is_in_a_group_twice(
    supervise: Supervise,
) -> None:
    """Each error of a group is examined, so the outer call makes no retry."""
    script, twice = Script(ConnectionError(), ConnectionError()), ConnectionError("twice")
    inner = supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)(script)

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    async def outer() -> None:
        raise ExceptionGroup("", [await error_of(inner()), twice, twice])

    assert isinstance(await error_of(outer()), ExceptionGroup)
    assert len(script.times) == 2


async def test_an_error_that_another_call_gave_up_on_meanwhile_is_classified_afresh(supervise: Supervise) -> None:
    """The attempt raises it by itself: the frames of the other call are not in its traceback."""
    shared = ConnectionError("shared")
    attempts = 0

    @supervise(retry_on=ConnectionError, max_retries=0)
    async def other() -> None:
        raise shared

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    async def func() -> None:
        nonlocal attempts
        attempts += 1
        await error_of(other())
        raise shared.with_traceback(None)

    assert await error_of(func()) is shared
    assert attempts == 2


async def test_a_new_error_is_retried_by_the_outer_layer(supervise: Supervise) -> None:
    """The outer policy classifies an error that the function raises from one on which an inner call gave up."""
    script = Script(ConnectionError)
    inner = supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)(script)

    @supervise(retry_on=LookupError, max_retries=2, backoff=NO_WAIT)
    async def outer() -> None:
        try:
            await inner()
        except ConnectionError as error:
            raise LookupError from error

    await error_of(outer())
    assert len(script.times) == 6


async def test_error_object_raised_again_later_is_classified_afresh(supervise: Supervise) -> None:
    """A cached error that an earlier call gave up on gets all retries in a later call, and the verdict is replaced."""
    cached = ConnectionError("cached")
    policy = Policy(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    assert await error_of(supervise(policy)(Script(cached))()) is cached
    script = Script(cached)
    assert await error_of(supervise(policy.replace(max_retries=2))(script)()) is cached
    assert len(script.times) == 3
    given_up = verdict(cached)
    assert given_up is not None
    assert given_up.attempts == 3
    assert len(cached.__notes__) == 1


async def test_error_of_an_earlier_attempts_inner_call_is_classified_afresh(supervise: Supervise) -> None:
    """An error on which an inner call gave up during an earlier attempt may be retried in a later one."""
    script = Script(ConnectionError)
    inner = supervise(retry_on=ConnectionError, max_retries=0)(script)
    kept: list[Exception] = []

    @supervise(retry_on=OSError, max_retries=3, backoff=NO_WAIT)
    async def outer() -> None:
        if not kept:
            kept.append(await error_of(inner()))
            raise OSError
        raise kept[0]

    assert await error_of(outer()) is kept[0]
    given_up = verdict(kept[0])
    assert given_up is not None
    assert given_up.attempts == 4


@pytest.mark.parametrize("limit", [None, 60.0], ids=["plain", "guarded"])
async def test_error_given_up_on_just_before_an_attempt_is_classified_afresh(
    limit: float | None, supervise: Supervise
) -> None:
    """An error of another call passes through only if that call gave up on it during this attempt."""
    cached = ConnectionError("cached")
    give_up = Policy(retry_on=OSError, max_retries=0)
    passes_by = supervise(retry_on=KeyError)(Script(cached))
    attempts = 0

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=NO_WAIT, deadline=limit)
    async def outer() -> None:
        nonlocal attempts
        attempts += 1
        await error_of(supervise(give_up)(Script(FileNotFoundError))())
        await passes_by()

    await error_of(supervise(give_up)(Script(cached))())
    await error_of(outer())
    assert attempts == 3


@only_async
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("limit", [None, 60.0], ids=["plain", "guarded"])
async def test_error_object_that_two_concurrent_calls_share(
    before: int, limit: float | None, supervise: Supervise
) -> None:
    """Of two calls that await one failed future, one gives up at once, and the other still makes its retries."""
    shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    attempts = 0

    async def wait() -> None:
        await shared

    async def count() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= before:
            raise ConnectionError
        await shared

    hasty = supervise(retry_on=ConnectionError, max_retries=0)(wait)
    policy = Policy(retry_on=ConnectionError, max_retries=before + 2, backoff=NO_WAIT, attempt_timeout=limit)
    calls = asyncio.gather(hasty(), supervise(policy)(count)(), return_exceptions=True)
    for _ in range(before + 1):
        await asyncio.sleep(0)
    shared.set_exception(ConnectionError("shared"))
    await calls
    assert attempts == before + 3


# Promise 9: it costs nothing until something fails


def test_success_needs_no_loop() -> None:
    """A plain policy's call that succeeds at once reads no clock, sets no timer, makes no task: it needs no loop."""

    @supervise(retry_on=ConnectionError)
    async def func() -> str:
        return "done"

    with pytest.raises(StopIteration) as returned:
        func().send(None)
    assert returned.value.value == "done"


def test_success_allocates_no_library_object() -> None:
    """While a plain policy's call succeeds, no object of a class of this library is created."""

    def library_objects() -> int:
        return sum(str(type(item).__module__).startswith("aiosupervise") for item in gc.get_objects())

    counts: list[int] = []

    @supervise(retry_on=ConnectionError)
    async def func() -> None:
        counts.append(library_objects())

    gc.collect()
    before = library_objects()
    with pytest.raises(StopIteration):
        func().send(None)
    assert counts == [before]
    assert before > 0


def test_success_enters_one_function_of_the_library() -> None:
    """When a plain policy's call succeeds, the wrapper is the only function of this library that runs."""

    @supervise(retry_on=ConnectionError)
    async def func() -> None:
        return None

    entered: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            entered.append(frame.f_code.co_name)

    call = func()
    sys.setprofile(profile)
    try:
        with pytest.raises(StopIteration):
            call.send(None)
    finally:
        sys.setprofile(None)
    assert len(entered) == 1


# Promise 10: state belongs to the call


@pytest.mark.looptime
async def test_concurrent_calls_share_nothing(supervise: Supervise) -> None:
    """Each of many concurrent calls has its own count of attempts, its own waits, and its own verdict."""
    counts: dict[int, int] = {}

    @supervise(retry_on=ConnectionError, max_retries=4, backoff=[1, 2])
    async def func(key: int) -> int:
        counts[key] = counts.get(key, 0) + 1
        await pass_time(key / 10)
        if counts[key] <= key:
            raise ConnectionError(key)
        return key

    results = await asyncio.gather(*map(func, range(7)), return_exceptions=True)
    assert results[:5] == [0, 1, 2, 3, 4]
    assert counts == {0: 1, 1: 2, 2: 3, 3: 4, 4: 5, 5: 5, 6: 5}
    for key in (5, 6):
        error = results[key]
        assert isinstance(error, ConnectionError)
        assert error.args == (key,)
        given_up = verdict(error)
        assert given_up is not None
        assert given_up.attempts == 5
        assert given_up.elapsed == pytest.approx(1 + 2 + 2 + 2 + 4 * key / 10)


async def test_a_call_does_not_remember_the_last_one(supervise: Supervise) -> None:
    """A function that used up its retries has all of them again in the next call."""
    script = Script(ConnectionError)
    func = supervise(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)(script)
    for calls in (1, 2, 3):
        await error_of(func())
        assert len(script.times) == 2 * calls


# Objects that can be supervised, and their attributes


async def plain(number: int, *, extra: str = "x") -> str:
    """Say it."""
    return f"{number}{extra}"


class Client:
    """A class with methods to supervise."""

    def __init__(self, name: str = "client") -> None:
        self.name = name
        self.attempts = 0

    @supervise(retry_on=ConnectionError, backoff=NO_WAIT)
    async def fetch(self, page: int) -> str:
        """Fetch a page."""
        self.attempts += 1
        if self.attempts < 3:
            raise ConnectionError
        return f"{self.name} {page}"

    @classmethod
    @supervise(retry_on=ConnectionError)
    async def make(cls, name: str) -> "Client":
        return cls(name)

    @staticmethod
    @supervise(retry_on=ConnectionError)
    async def double(number: int) -> int:
        return 2 * number

    async def bare(self, page: int) -> str:
        """Fetch without a policy."""
        return f"{self.name} {page}"

    async def __call__(self, page: int) -> str:
        """Call me."""
        return f"{self.name} {page}"


def test_name_docstring_signature_and_types_are_kept() -> None:
    """For `inspect` and `typing` too, a supervised function has the metadata of the function."""
    func = supervise(retry_on=ConnectionError)(plain)
    assert func.__name__ == "plain"
    assert func.__doc__ == "Say it."
    assert func.__module__ == plain.__module__
    assert inspect.signature(func) == inspect.signature(plain)
    assert get_type_hints(func) == {"number": int, "extra": str, "return": str}


@only_async_functions
@pytest.mark.parametrize(
    ("func", "name", "doc"),
    [
        (plain, "plain", "Say it."),
        (functools.partial(plain, extra="y"), "plain", "Say it."),
        (functools.partial(functools.partial(plain), extra="y"), "plain", "Say it."),
        (Client().bare, "bare", "Fetch without a policy."),
        (functools.partial(Client().bare), "bare", "Fetch without a policy."),
        (Client(), "Client", "A class with methods to supervise."),
        (functools.partial(Client()), "Client", None),
    ],
    ids=[
        "function",
        "partial",
        "partial of a partial",
        "bound method",
        "partial of a method",
        "object",
        "partial of it",
    ],
)
async def test_objects_that_can_be_supervised(
    supervise: Supervise, func: Callable[[int], Coroutine[object, None, str]], name: str, doc: str | None
) -> None:
    """Functions, bound methods, partials and objects with an async __call__ are supervised, under their own names."""
    policy = Policy(retry_on=ConnectionError)
    supervised = supervise(policy)(func)
    assert await supervised(1) == await func(1)
    assert supervised.__name__ == name
    assert doc is None or supervised.__doc__ == doc
    assert inspect.iscoroutinefunction(supervised)
    assert inspect.signature(supervised) == inspect.signature(func)
    assert vars(supervised)["__wrapped__"] is func
    assert vars(supervised)["policy"] is policy_of(supervised) is policy


async def test_a_mock_of_an_async_function() -> None:
    """A function that `create_autospec` makes is async, also where only the mark of asyncio says so."""
    mock = create_autospec(plain)
    mock.side_effect = [ConnectionError, "said"]
    assert await supervise(retry_on=ConnectionError, backoff=[0])(mock)(1) == "said"
    assert mock.await_count == 2


def test_the_attributes_of_a_function_are_kept_and_the_state_of_an_object_is_not_copied() -> None:
    """Decorators mark functions with attributes; the attributes of an object with an async `__call__` can change."""

    async def marked() -> None:
        pass

    marked.__dict__["route"] = "/pages"
    assert vars(supervise(retry_on=ConnectionError)(marked))["route"] == "/pages"
    assert vars(supervise(retry_on=ConnectionError)(Client())).keys() == {"policy", "__wrapped__"}


async def test_methods() -> None:
    """A supervised method binds to its instance, by the instance and by the class, and shows its policy."""
    client = Client("one")
    assert await client.fetch(7) == "one 7"
    assert client.attempts == 3
    assert await Client.fetch(Client("two"), page=8) == "two 8"
    assert policy_of(client.fetch) is policy_of(Client.fetch) is policy_of(functools.partial(client.fetch, 1))
    assert policy_of(Client.fetch).retry_on is ConnectionError
    assert inspect.iscoroutinefunction(client.fetch)
    assert client.fetch.__name__ == "fetch"
    assert client.fetch.__doc__ == "Fetch a page."


class Policied:
    """An object to call, with a policy that is not that of its calls."""

    policy = Policy(retry_on=ConnectionError)

    async def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (asyncio.sleep, "sleep"),
        (functools.partial(asyncio.sleep, 1), "sleep"),
        (Client("one"), "Client"),
        (len, "len"),
        (Policied(), "Policied"),
    ],
    ids=type,
)
def test_a_function_that_is_not_supervised_has_no_policy(func: Callable[..., object], name: str) -> None:
    """The error names the function and shows the decorator."""
    with pytest.raises(
        TypeError, match=f"^policy_of takes a supervised function, and {name} has no policy: decorate it"
    ):
        policy_of(func)


async def test_below_classmethod_and_staticmethod() -> None:
    """@supervise is written below @classmethod and @staticmethod."""
    make: Callable[[str], Coroutine[object, None, Client]] = Client.make
    assert (await make("made")).name == "made"
    assert await Client.double(2) == 4


async def test_one_policy_for_many_functions(supervise: Supervise) -> None:
    """A Policy is a value: the same one serves any number of functions, and `replace` makes another."""
    policy = Policy(retry_on=ConnectionError, max_retries=1, backoff=NO_WAIT)
    one, two = Script(ConnectionError), Script(ConnectionError)
    await error_of(supervise(policy)(one)())
    await error_of(supervise(policy.replace(max_retries=2))(two)())
    assert (len(one.times), len(two.times)) == (2, 3)
    assert policy.max_retries == 1


async def test_retries_are_counted_for_the_job_around_the_call(supervise: Supervise) -> None:
    """A call in a job of a batch counts its retries there: three attempts give Success(attempts=3)."""
    func = supervise(retry_on=ConnectionError, backoff=NO_WAIT)(Script(ConnectionError, ConnectionError, "done"))
    report = await aiosupervise.run_all([func])
    assert [outcome.attempts for outcome in report.succeeded] == [3]
