"""Blocks: a loop over a policy retries the lines in its `with` statement."""

# ruff: noqa: PT012 - the loop is the statement that raises

import asyncio
import contextlib
import gc
import itertools
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any

import pytest

from aiosupervise import (
    Attempt,
    AttemptFailed,
    AttemptTimeout,
    Budget,
    CallFinished,
    DeadlineExceeded,
    Event,
    Overload,
    Policy,
    Reason,
    attempt,
    listen,
    map_all,
    run_all,
    supervise,
    verdict,
)
from aiosupervise.testing import no_waiting

from .endings import error_of, verdict_of
from .forms import in_form, pass_time

POLICY = Policy(retry_on=ConnectionError, backoff=[0], max_retries=2)

PLAIN = r"`for attempt in policy:` and in it `with attempt:`"
ASYNC = r"`async for attempt in policy:` and in it `async with attempt:`"


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """The events of a test."""
    kept: list[Event] = []
    with listen(kept.append):
        yield kept


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


# How a block is left


def test_return_break_and_continue_are_success(events: list[Event]) -> None:
    """Inside of the `with` they end the loop, as the end of the block does."""

    def by_return() -> int:
        for each in POLICY:
            with each:
                return each.number
        return 0

    assert by_return() == 1
    for each in POLICY:
        with each:
            break
    for each in POLICY:
        with each:
            continue
    for each in POLICY:
        with each:
            pass
    assert names(events) == ["AttemptStarted", "CallFinished"] * 4


async def test_return_break_and_continue_are_success_in_async_blocks(events: list[Event]) -> None:
    """The same in an async function."""

    async def by_return() -> int:
        async for each in POLICY:
            async with each:
                return each.number
        return 0

    assert await by_return() == 1
    async for each in POLICY:
        async with each:
            break
    async for each in POLICY:
        async with each:
            continue
    async for each in POLICY:
        async with each:
            pass
    assert names(events) == ["AttemptStarted", "CallFinished"] * 4


def test_code_after_the_block_runs_after_failed_attempts_too() -> None:
    """The error of an attempt that is followed by another is dropped, and the body of the loop goes on."""
    ran: list[int] = []
    for each in POLICY:
        with each:
            if each.number < 3:
                raise ConnectionError
        ran.append(each.number)
    assert ran == [1, 2, 3]


def leave_by_break() -> None:
    for each in POLICY:
        with each:
            raise ConnectionError("dropped")
        break


async def leave_async_by_break() -> None:
    async for each in POLICY:
        async with each:
            raise ConnectionError("dropped")
        break


def leave_before_the_next() -> None:
    for each in POLICY:
        if each.number == 2:
            break
        with each:
            raise ConnectionError("dropped")


def leave_at_the_end_of_a_slice() -> None:
    for each in itertools.islice(POLICY, 1):
        with each:
            raise ConnectionError("dropped")


def leave_at_the_end_of_a_zip() -> None:
    for each, _ in zip(POLICY, range(1), strict=False):
        with each:
            raise ConnectionError("dropped")


LEAVE = [
    leave_by_break,
    lambda: asyncio.run(leave_async_by_break()),
    leave_before_the_next,
    leave_at_the_end_of_a_slice,
    leave_at_the_end_of_a_zip,
]


@pytest.mark.parametrize("leave", LEAVE)
def test_a_break_after_a_failed_attempt_warns(leave: Callable[[], None], events: list[Event]) -> None:
    """It would hide the error: the call is finished with it, and the warning names the function and the line."""
    text = (
        r"^leave_\w+:\d+ was left after attempt 1 had failed, and before another one, so that its error is lost: leave"
    )
    with pytest.warns(RuntimeWarning, match=text):
        leave()
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert isinstance(events[-1], CallFinished)
    assert str(events[-1].error) == "dropped"


def test_an_error_of_the_code_after_the_block_hides_nothing(events: list[Event]) -> None:
    """The call is finished, without a warning."""

    def leave() -> None:
        for each in POLICY:
            with each:
                raise ConnectionError
            raise LookupError("enough")

    with pytest.raises(LookupError):
        leave()
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]


def fail_to_classify(_: Exception) -> bool:
    raise LookupError("of the predicate")


def test_a_predicate_that_fails_finishes_the_call(events: list[Event]) -> None:
    """The loop ends with its error."""
    with pytest.raises(LookupError, match="of the predicate"):
        for each in Policy(retry_on=fail_to_classify):
            with each:
                raise ConnectionError
    assert names(events) == ["AttemptStarted", "CallFinished"]
    assert isinstance(events[-1], CallFinished)
    assert str(events[-1].error) == "of the predicate"


async def end_too_late() -> None:
    for each in Policy(retry_on=StopIteration, deadline=5, backoff=[2]):
        with each:
            raise StopIteration
        await pass_time(4)


async def end_async_too_late() -> None:
    async for each in Policy(retry_on=StopAsyncIteration, deadline=5, backoff=[2]):
        async with each:
            raise StopAsyncIteration
        await pass_time(4)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("form", "end", "cause"),
    [("plain block", end_too_late, StopIteration), ("async block", end_async_too_late, StopAsyncIteration)],
)
async def test_a_final_error_that_would_end_the_loop_silently(
    form: str,
    end: Callable[[], Coroutine[object, None, None]],
    cause: type[Exception],
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the cause of a RuntimeError, as where a generator raises it."""
    in_form(form, monkeypatch)
    with pytest.raises(RuntimeError, match=f"gave up on a {cause.__name__}, by which") as raised:
        await end()
    assert type(raised.value.__cause__) is cause
    assert names(events)[-2:] == ["GaveUp", "CallFinished"]


def test_an_attempt_that_is_not_made_leaves_nothing(events: list[Event]) -> None:
    """A loop that is left before its first attempt has done nothing."""
    for _ in POLICY:
        break
    iter(POLICY)
    assert events == []


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, LookupError])
async def test_what_passes_through(kind: type[BaseException], events: list[Event]) -> None:
    """An unlisted error, cancellation and exit: the same object, and the call is finished."""
    raised = kind()

    async def block() -> None:
        async for each in POLICY:
            async with each:
                raise raised

    with pytest.raises(kind) as caught:
        await block()
    assert caught.value is raised
    assert verdict(raised) is None
    assert names(events)[-1] == "CallFinished"
    events.clear()
    with pytest.raises(kind):
        for each in POLICY:
            with each:
                raise raised
    assert names(events)[-1] == "CallFinished"


class OddExit(BaseException):
    """An exit that does not say what it is."""

    @property  # type: ignore[misc]  # that is the point
    def __class__(self) -> type:
        raise RuntimeError("not to be read")


def test_an_exit_that_cannot_be_read_passes_through() -> None:
    """Its type is looked at, and never its `__class__`."""
    raised = OddExit()
    with pytest.raises(OddExit):
        for each in POLICY:
            with each:
                raise raised


@pytest.mark.looptime
async def test_cancelled_in_the_wait(events: list[Event]) -> None:
    """The call ends with the cancellation, and nothing is left."""

    async def block() -> None:
        async for each in POLICY.replace(backoff=[9]):
            async with each:
                raise ConnectionError

    task = asyncio.create_task(block())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert isinstance(events[-1], CallFinished)
    assert isinstance(events[-1].error, asyncio.CancelledError)


async def test_interrupted_in_the_wait_of_plain_code(events: list[Event]) -> None:
    """The warning about a blocked loop, where warnings are errors, ends the call."""
    with pytest.raises(RuntimeWarning, match="waits 9 s before its next attempt"):
        for each in POLICY.replace(backoff=[9]):
            with each:
                raise ConnectionError
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert isinstance(events[-1], CallFinished)
    assert isinstance(events[-1].error, RuntimeWarning)


async def thrown_away() -> None:
    async for each in POLICY:
        async with each:
            await asyncio.sleep(9)


async def test_a_coroutine_that_is_thrown_away_in_a_block(events: list[Event]) -> None:
    """The block is left by GeneratorExit."""
    coroutine = thrown_away()
    coroutine.send(None)
    coroutine.close()
    assert names(events) == ["AttemptStarted", "CallFinished"]


def test_an_iterator_can_be_kept() -> None:
    """A loop over it is the same as one over the policy."""
    loop = iter(POLICY)
    for each in loop:
        with each:
            raise_one([ConnectionError()] if each.number == 1 else [])
    assert each.number == 2


async def test_an_async_iterator_can_be_kept() -> None:
    """The same in an async function."""
    loop = aiter(POLICY)
    async for each in loop:
        async with each:
            raise_one([ConnectionError()] if each.number == 1 else [])
    assert each.number == 2


def test_a_loop_that_is_dropped_while_its_attempt_runs(events: list[Event]) -> None:
    """The attempt ends the call, and nothing else does."""
    loop = iter(POLICY)
    with next(loop):
        raise_one([ConnectionError()])
    with next(loop):
        del loop
    assert names(events)[-2:] == ["Recovered", "CallFinished"]
    assert names(events).count("CallFinished") == 1


@pytest.mark.parametrize("end", ["drop", "close"])
async def test_a_loop_that_is_over_while_its_attempt_fails(end: str, events: list[Event]) -> None:
    """No other attempt could follow: the error is raised, with a verdict."""
    error = ConnectionError("not lost")
    loop: Any = iter(POLICY)
    with pytest.raises(ConnectionError) as raised, next(loop):
        if end == "close":
            loop.close()
        del loop
        raise error
    assert raised.value is error
    assert verdict_of(error).attempts == 1
    assert names(events) == ["AttemptStarted", "AttemptFailed", "GaveUp", "CallFinished"]
    events.clear()
    loop = aiter(POLICY)
    with pytest.raises(ConnectionError):
        async with await anext(loop):
            if end == "close":
                await loop.aclose()
            del loop
            raise ConnectionError
    assert names(events) == ["AttemptStarted", "AttemptFailed", "GaveUp", "CallFinished"]


LOST = (
    r"^\w+:\d+ was left after attempt 1 had failed, and before another one, so that its error is lost: "
    r"leave the loop inside the `with`, or raise an error$"
)


def test_closing_a_loop_ends_its_call(events: list[Event]) -> None:
    """Closing it twice has the same effect as closing it once, and no attempt follows."""
    loop = iter(POLICY)
    for each in loop:
        with each:
            raise ConnectionError("dropped")
        with pytest.warns(RuntimeWarning, match=LOST):
            loop.close()
        loop.close()
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert isinstance(events[-1], CallFinished)
    assert str(events[-1].error) == "dropped"
    with pytest.raises(RuntimeError, match="or has ended"):
        each.__enter__()


async def test_closing_an_async_loop_ends_its_call(events: list[Event]) -> None:
    """The same in an async function."""
    loop = aiter(POLICY)
    async for each in loop:
        async with each:
            raise ConnectionError("dropped")
        with pytest.warns(RuntimeWarning, match=LOST):
            await loop.aclose()
        await loop.aclose()
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]


async def test_the_warning_points_at_the_line_that_leaves_or_closes_the_loop() -> None:
    """The frames of the library and of `contextlib` are left out."""
    with pytest.warns(RuntimeWarning, match=LOST) as caught_break:
        leave_by_break()
    with pytest.warns(RuntimeWarning, match=LOST) as caught_async_break:
        await leave_async_by_break()
    loop = iter(POLICY)
    with next(loop):
        raise_one([ConnectionError()])
    with pytest.warns(RuntimeWarning, match=LOST) as caught:
        loop.close()
    with pytest.warns(RuntimeWarning, match=LOST) as caught_outside:
        break_while_closing()
    with pytest.warns(RuntimeWarning, match=LOST) as caught_outside_async:
        await break_while_aclosing()
    warned = (caught_break, caught_async_break, caught, caught_outside, caught_outside_async)
    assert {each[0].filename for each in warned} == {__file__}


def break_while_closing() -> None:
    with contextlib.closing(iter(POLICY)) as attempts:
        for each in attempts:
            with each:
                raise ConnectionError
            break


async def break_while_aclosing() -> None:
    async with contextlib.aclosing(aiter(POLICY)) as attempts:
        async for each in attempts:
            async with each:
                raise ConnectionError
            break


async def test_closing_by_contextlib(events: list[Event]) -> None:
    """A break after a failed attempt warns; an exception after it does not."""
    with pytest.warns(RuntimeWarning, match=LOST):
        break_while_closing()
    with pytest.warns(RuntimeWarning, match=LOST):
        await break_while_aclosing()
    with pytest.raises(LookupError), contextlib.closing(iter(POLICY)) as attempts:
        for each in attempts:
            with each:
                raise ConnectionError
            raise LookupError
    with pytest.raises(LookupError):
        async with contextlib.aclosing(aiter(POLICY)) as async_attempts:
            async for one in async_attempts:
                async with one:
                    raise ConnectionError
                raise LookupError
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"] * 4


async def test_closing_by_contextlib_after_a_success() -> None:
    """It does nothing."""
    with contextlib.closing(iter(POLICY)) as attempts:
        for plain in attempts:
            with plain:
                raise_one([ConnectionError()] if plain.number == 1 else [])
    async with contextlib.aclosing(aiter(POLICY)) as async_attempts:
        async for each in async_attempts:
            async with each:
                raise_one([ConnectionError()] if each.number == 1 else [])
    assert (plain.number, each.number) == (2, 2)


def test_closing_before_the_first_attempt(events: list[Event]) -> None:
    """There is nothing to end."""
    loop = iter(POLICY)
    loop.close()
    assert list(loop) == []
    assert events == []


WAITING = r"^\w+:\d+ is waiting for its next attempt, so that its iterator cannot be used: cancel"


async def test_an_iterator_in_use_can_be_neither_closed_nor_advanced(events: list[Event]) -> None:
    """As with a generator that is running: the loop that waits in it goes on, and its call ends once."""
    attempts = aiter(POLICY)
    numbers: list[int] = []

    async def loop() -> None:
        async for each in attempts:
            numbers.append(each.number)
            async with each:
                raise_one([ConnectionError()] if each.number == 1 else [])

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=WAITING):
        await attempts.aclose()
    with pytest.raises(RuntimeError, match=WAITING):
        await anext(attempts)
    await task
    await attempts.aclose()
    assert numbers == [1, 2]
    assert names(events).count("CallFinished") == 1


def test_an_iterator_in_use_in_synchronous_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for one that a thread waits in."""
    attempts = iter(POLICY.replace(backoff=[1]))

    def use_meanwhile(_: float) -> None:
        for use in (attempts.close, attempts.__next__):
            with pytest.raises(RuntimeError, match=WAITING):
                use()

    monkeypatch.setattr(time, "sleep", use_meanwhile)
    for each in attempts:
        with each:
            raise_one([ConnectionError()] if each.number == 1 else [])
    assert each.number == 2


@pytest.mark.looptime
async def test_closing_gives_a_probe_back() -> None:
    """The run does not wait for the rest of a job whose probe ended with its loop."""
    ends: list[float] = []

    async def job(page: int) -> None:
        attempts = aiter(POLICY.replace(max_retries=99))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            async for each in attempts:
                if page == 0 and each.number == 2:
                    await attempts.aclose()
                    await asyncio.sleep(100)
                    break
                async with each:
                    if page == 0 or each.number == 1:
                        raise ConnectionError
        ends.append(asyncio.get_running_loop().time())

    report = await map_all(job, range(2), overload=Overload(Budget(capacity=0), first_pause=1, probes=1), limit=2)
    assert report.ok
    assert ends[0] < 20
    assert ends[1] > 100


def test_an_attempt_whose_loop_is_gone() -> None:
    """No other attempt could follow."""
    with pytest.raises(RuntimeError, match="or has ended: an attempt is entered once, in the loop that yields it"):
        next(iter(POLICY)).__enter__()


LEFT_AT_THE_END = """
from aiosupervise import Policy

loop = iter(Policy(retry_on=ConnectionError, backoff=[0]))
with next(loop):
    raise ConnectionError
"""


@pytest.mark.slow
def test_a_loop_that_the_end_of_the_program_leaves() -> None:
    """It prints nothing."""
    program = [sys.executable, "-W", "error", "-c", LEFT_AT_THE_END]
    ended = subprocess.run(program, capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_a_loop_whose_call_has_given_up_yields_no_other_attempt() -> None:
    """Whether the last attempt or the wait after it was the end."""
    for policy in (POLICY.replace(max_retries=0), POLICY.replace(deadline=0.01, backoff=[0.005])):
        loop = iter(policy)
        with pytest.raises(ConnectionError):
            for each in loop:
                with each:
                    raise ConnectionError
                time.sleep(0.02)
        assert list(loop) == []


# What is wrong


async def test_a_second_iteration_without_the_with() -> None:
    """It gets an error with the right code; so does a `list` of a policy."""
    rule = "^the attempt that a Policy yielded was not entered, so no other one follows: write"
    with pytest.raises(RuntimeError, match=f"{rule} {PLAIN}$"):
        for _ in POLICY:
            pass
    with pytest.raises(RuntimeError, match=f"{rule} {ASYNC}$"):
        async for _ in POLICY:
            pass
    with pytest.raises(RuntimeError, match=PLAIN):
        list(POLICY)
    with pytest.raises(RuntimeError, match=PLAIN):
        for _ in POLICY:
            if _.number == 1:
                with _:
                    raise ConnectionError


def test_a_policy_contains_nothing() -> None:
    """`in` would make attempts to find out."""
    rule = "a Policy contains nothing: compare with its fields, such as policy.retry_on"
    with pytest.raises(TypeError, match=f"^{rule}$"):
        assert ConnectionError in POLICY


async def test_the_wrong_with(events: list[Event]) -> None:
    """`with` for `async with`, and the other way round, get an error with the right code, which ends the call."""
    wrong: Any
    with pytest.raises(TypeError, match=f"`for` and `with` must both be async, or neither: write {ASYNC}"):
        async for wrong in POLICY:
            with wrong:
                pass
    with pytest.raises(TypeError, match=f"`for` and `with` must both be async, or neither: write {ASYNC}"):
        for wrong in POLICY:
            if wrong.number == 1:
                with wrong:
                    raise ConnectionError
            async with wrong:
                pass
    assert names(events) == ["AttemptStarted", "AttemptFailed", "CallFinished"]


def test_plain_loops_over_policies_that_need_the_event_loop() -> None:
    """An attempt_timeout and an async gate need `async for`, and the error shows it."""
    with pytest.raises(TypeError, match=f"attempt_timeout does not work with a loop that is not async.* write {ASYNC}"):
        iter(POLICY.replace(attempt_timeout=1))
    with pytest.raises(TypeError, match=rf"gate Lock is async, and test_plain_.*:\d+ is not.*, or write {ASYNC}"):
        iter(POLICY.replace(gate=asyncio.Lock()))


async def test_gates_that_do_not_fit() -> None:
    """A synchronous gate would block the loop, and a function of arguments has none in a block."""
    with pytest.raises(TypeError, match="would block the event loop"):
        aiter(POLICY.replace(gate=threading.Semaphore()))
    with pytest.raises(TypeError, match=r"gate <lambda> is a function of a call's arguments, and a loop .* has none"):
        aiter(POLICY.replace(gate=lambda _: asyncio.Lock()))


async def sharing_a_gate(policy: Policy) -> None:
    async for each in policy:
        async with each:
            await sharing_a_gate(policy)


def sharing_a_plain_gate(policy: Policy) -> None:
    for each in policy:
        with each:
            sharing_a_plain_gate(policy)


async def test_a_block_in_a_block_with_the_same_gate() -> None:
    """The inner block would wait for the outer one: the error names the gate, and both blocks by function and line."""
    rule = (
        r"^{0}:\d+ was called inside an attempt of {0}:\d+, which holds the same gate \({1}\), .*gate=None.* for {0}:"
    )
    with pytest.raises(RuntimeError, match=rule.format("sharing_a_gate", "Lock")):
        await sharing_a_gate(POLICY.replace(gate=asyncio.Lock()))
    with pytest.raises(RuntimeError, match=rule.format("sharing_a_plain_gate", "Semaphore")):
        sharing_a_plain_gate(POLICY.replace(gate=threading.Semaphore()))


def test_the_repr_of_an_attempt_names_its_block() -> None:
    """With its number, as the events do."""
    for each in POLICY:
        with each:
            text = f"<attempt {each.number} of test_the_repr_of_an_attempt_names_its_block:"
            assert repr(each).startswith(text)
            break


async def test_an_attempt_is_entered_once() -> None:
    """Neither again, nor when another one has come."""
    kept: list[Any] = []
    for plain in POLICY:
        with plain:
            kept.append(plain)
            with pytest.raises(RuntimeError, match=r"attempt 1 of .* was entered twice"), plain:
                pass
            break
    with pytest.raises(RuntimeError, match="was entered twice"):
        kept[0].__enter__()
    async for each in POLICY:
        if each.number == 2:
            with pytest.raises(RuntimeError, match=r"attempt 1 of .* was entered twice"):
                await kept[-1].__aenter__()
        async with each:
            kept.append(each)
            if each.number == 1:
                raise ConnectionError


# Limits


class Gate:
    """A gate that is both async and synchronous, and raises the errors in turn: on entry, then on exit."""

    def __init__(self, entering: list[BaseException | None], leaving: list[BaseException | None]) -> None:
        self.entering = entering
        self.leaving = leaving
        self.inside = 0

    def __enter__(self) -> None:
        self.inside += 1
        raise_one(self.entering)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.inside -= 1
        raise_one(self.leaving)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def raise_one(errors: list[BaseException | None]) -> None:
    error = errors.pop(0) if errors else None
    if error is not None:
        # Otherwise the error and this frame would keep each other alive.
        try:
            raise error
        finally:
            del error


def made_in_block(gate: Gate, ends: list[BaseException | None]) -> Callable[[], Coroutine[object, None, str]]:
    async def block() -> str:
        async for each in POLICY.replace(gate=gate):
            async with each:
                raise_one(ends)
                return "done"
        return "went on"

    return block


def made_in_plain_block(gate: Gate, ends: list[BaseException | None]) -> Callable[[], Coroutine[object, None, str]]:
    async def block() -> str:
        for each in POLICY.replace(gate=gate):
            with each:
                raise_one(ends)
                return "done"
        return "went on"

    return block


both = pytest.mark.parametrize("make", [made_in_block, made_in_plain_block], ids=["async", "plain"])


@both
async def test_every_attempt_is_inside_of_the_gate(
    make: Callable[..., Callable[[], Coroutine[object, None, str]]],
) -> None:
    """It is entered and left by each."""
    gate = Gate([], [])
    assert await make(gate, [ConnectionError(), None])() == "done"
    assert gate.inside == 0


@both
@pytest.mark.parametrize("error", [ConnectionError(), LookupError(), KeyboardInterrupt()], ids=repr)
async def test_a_gate_that_cannot_be_entered_ends_the_call(
    make: Callable[..., Callable[[], Coroutine[object, None, str]]], error: BaseException
) -> None:
    """The body of a `with` cannot be skipped: the call gives up on what the policy would retry."""
    with pytest.raises(type(error)) as raised:
        await make(Gate([None, error], []), [ConnectionError()])()
    assert raised.value is error
    given_up = verdict(error)
    assert (given_up and given_up.reason) is (Reason.EXHAUSTED if isinstance(error, ConnectionError) else None)


@both
async def test_an_error_of_leaving_the_gate_is_that_of_the_attempt(
    make: Callable[..., Callable[[], Coroutine[object, None, str]]],
) -> None:
    """It is retried, or ends the call."""
    assert await make(Gate([], [ConnectionError(), None]), [LookupError(), None])() == "done"
    with pytest.raises(KeyboardInterrupt):
        await make(Gate([], [KeyboardInterrupt()]), [LookupError()])()
    with pytest.raises(ValueError, match="left"):
        await make(Gate([], [ValueError("left")]), [ConnectionError()])()


@both
async def test_an_exit_of_leaving_the_gate_ends_the_call(
    make: Callable[..., Callable[[], Coroutine[object, None, str]]], events: list[Event]
) -> None:
    """It passes through, and the call is finished with it, whatever the block did."""
    for ends in ([], [LookupError()]):
        exit_ = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            await make(Gate([], [exit_]), list(ends))()
        assert names(events) == ["AttemptStarted", "CallFinished"]
        assert isinstance(events[-1], CallFinished)
        assert events[-1].error is exit_
        events.clear()


@pytest.mark.looptime
async def test_attempt_timeout_and_deadline_in_async_blocks() -> None:
    """An attempt that takes too long is interrupted and retried; the deadline interrupts the call."""
    policy = POLICY.replace(attempt_timeout=2, backoff=[1])
    lengths = [9.0, 1.0]
    async for each in policy:
        async with each:
            await asyncio.sleep(lengths.pop(0))
    assert (each.number, type(each.previous_error)) == (2, type(None))

    async def block(policy: Policy) -> None:
        async for each in policy:
            async with each:
                await asyncio.sleep(9)

    assert type(await error_of(block(policy))) is AttemptTimeout
    error = await error_of(block(policy.replace(attempt_timeout=None, deadline=5)))
    assert type(error) is DeadlineExceeded
    assert verdict_of(error).reason is Reason.DEADLINE


@pytest.mark.looptime
@pytest.mark.parametrize("gate", [None, asyncio.Semaphore()], ids=["alone", "gate"])
async def test_a_deadline_that_has_passed_before_the_attempt_ends_the_call(gate: asyncio.Semaphore | None) -> None:
    """Code before the block takes its time too."""

    async def block() -> None:
        async for each in POLICY.replace(deadline=5, backoff=[1], gate=gate):
            if each.number == 2:
                await asyncio.sleep(9)
            async with each:
                raise ConnectionError("dropped")

    error = await error_of(block())
    assert type(error) is DeadlineExceeded
    assert str(error.__cause__) == "dropped"
    assert gate is None or not gate.locked()


@pytest.mark.looptime
async def test_no_wait_begins_that_would_end_after_the_deadline() -> None:
    """Code after the block takes its time too: the loop gives up on the last error, without waiting."""
    for slept, reason in ((2, Reason.EXHAUSTED), (3, Reason.DEADLINE), (3.5, Reason.DEADLINE)):
        started = asyncio.get_running_loop().time()

        async def block(slept: float) -> None:
            async for each in POLICY.replace(deadline=5, backoff=[2], max_retries=1):
                async with each:
                    raise ConnectionError("dropped")
                await asyncio.sleep(slept)

        error = await error_of(block(slept))
        assert type(error) is ConnectionError
        assert verdict_of(error).reason is reason
        waited = asyncio.get_running_loop().time() - started - slept
        assert waited == (2 if reason is Reason.EXHAUSTED else 0)


@pytest.mark.looptime
async def test_a_wait_that_is_not_begun_leaves_the_lines_of_the_note_right() -> None:
    """The last error is the one that the caller gets, and no earlier one; so is the only one."""

    async def block(retries: int) -> None:
        async for each in POLICY.replace(deadline=5, backoff=[1], max_retries=9):
            async with each:
                raise ConnectionError(f"number {each.number}")
            await asyncio.sleep(9 if each.number > retries else 0)

    for retries in range(3):
        given_up = verdict_of(await error_of(block(retries)))
        assert (given_up.attempts, given_up.reason) == (retries + 1, Reason.DEADLINE)
        lines = [f"  attempt {n}: ConnectionError: number {n}" for n in range(1, retries + 1)]
        assert given_up.splitlines()[1:] == lines


def test_a_deadline_of_plain_code_that_has_passed_before_the_wait() -> None:
    """The loop gives up on the last error."""
    with pytest.raises(ConnectionError) as raised:
        for each in POLICY.replace(deadline=0.01, backoff=[0.005]):
            with each:
                raise ConnectionError
            time.sleep(0.02)
    assert verdict_of(raised.value).reason is Reason.DEADLINE


def test_no_waiting_and_budgets_apply() -> None:
    """As to functions."""
    budget = Budget(capacity=30)
    with no_waiting(), pytest.raises(ConnectionError) as raised:
        for each in POLICY.replace(backoff=[99], budget=budget, max_retries=9):
            with each:
                raise ConnectionError
    assert (verdict_of(raised.value).reason, verdict_of(raised.value).attempts) == (Reason.BUDGET, 3)
    for each in POLICY.replace(budget=budget):
        with each:
            pass
    assert budget.tokens == 3


# What an attempt knows


@pytest.mark.parametrize("deadline", [None, 100.0])
async def test_an_attempt_says_what_attempt_says(deadline: float | None) -> None:
    """`attempt()` inside of the block, and in what it calls, agrees with the loop's variable."""
    policy = POLICY.replace(deadline=deadline)

    def asked() -> Attempt:
        return attempt()

    async def asked_later() -> Attempt:
        await asyncio.sleep(0)
        return attempt()

    def agrees(answer: Attempt, number: int, error: Exception | None, left: float | None) -> bool:
        return (answer.number, answer.previous_error) == (number, error) and (answer.time_left is None) == (
            left is None
        )

    errors = [ConnectionError(1), ConnectionError(2)]
    left = list(errors)
    async for each in policy:
        async with each:
            for answer in (attempt(), asked(), await asked_later()):
                assert agrees(answer, each.number, each.previous_error, each.time_left)
            assert each.previous_error is ([None, *errors][each.number - 1])
            raise_one(left)  # type: ignore[arg-type]
    left = list(errors)
    for plain in policy:
        with plain:
            assert agrees(asked(), plain.number, plain.previous_error, plain.time_left)
            raise_one(left)  # type: ignore[arg-type]
        if left:
            with pytest.raises(RuntimeError, match="outside a supervised function"):
                attempt()


async def test_blocks_in_blocks_and_in_functions() -> None:
    """`attempt()` answers for the innermost, and for the outer one again when the inner one has ended."""
    numbers: list[int] = []

    @supervise(POLICY)
    def load() -> None:
        numbers.append(attempt().number)
        for outer in POLICY:
            with outer:
                if outer.number == 1:
                    raise ConnectionError
                for inner in POLICY:
                    with inner:
                        numbers.append(attempt().number)
                numbers.append(attempt().number)
        numbers.append(attempt().number)

    load()
    assert numbers == [1, 1, 2, 1]


async def test_an_exit_stack_enters_an_attempt_for_its_function() -> None:
    """`attempt()` finds the block there, and nowhere else."""
    numbers: list[int] = []
    for plain in POLICY:
        with contextlib.ExitStack() as stack:
            stack.enter_context(plain)
            numbers.append(attempt().number)
            if plain.number == 1:
                raise ConnectionError
    async for each in POLICY:
        async with contextlib.AsyncExitStack() as async_stack:
            await async_stack.enter_async_context(each)
            numbers.append(attempt().number)
            if each.number == 1:
                raise ConnectionError
    assert numbers == [1, 2, 1, 2]
    with pytest.raises(RuntimeError, match="outside a supervised function"):
        attempt()


async def test_a_child_task_is_outside_of_the_block() -> None:
    """It has a stack of its own."""

    async def ask() -> None:
        attempt()

    async for each in POLICY:
        async with each:
            with pytest.raises(RuntimeError, match="outside a supervised function"):
                await asyncio.create_task(ask())


def test_events_are_named_after_the_function_and_the_line(events: list[Event]) -> None:
    """Or as the policy is."""
    for policy in (POLICY, POLICY.replace(name="load")):
        for each in policy:
            with each:
                raise_one([ConnectionError()] if each.number == 1 else [])
    own, named = [event.name for event in events if isinstance(event, AttemptFailed)]
    assert own.startswith("test_events_are_named_after_the_function_and_the_line:")
    assert named == "load"


# Layers and batches


async def test_layers_of_blocks_do_not_multiply() -> None:
    """An error that an inner block gave up on is not retried by the enclosing block or function."""
    calls = 0

    async def block() -> None:
        nonlocal calls
        async for outer in POLICY:
            async with outer:
                async for inner in POLICY:
                    async with inner:
                        calls += 1
                        raise ConnectionError

    await error_of(block())
    assert calls == 3
    calls = 0
    await error_of(supervise(POLICY)(block)())
    assert calls == 3
    calls = 0

    def plain() -> None:
        nonlocal calls
        for each in POLICY:
            with each:
                calls += 1
                raise ConnectionError

    for func in (supervise(POLICY)(plain), supervise(POLICY)(supervise(POLICY)(plain))):
        calls = 0
        with pytest.raises(ConnectionError) as raised:
            func()
        assert calls == 3
        assert verdict_of(raised.value).attempts == 3


async def test_retries_in_a_job_are_counted_and_paid() -> None:
    """As those of a supervised function."""
    budget = Budget()
    tokens: list[int] = []

    async def job() -> None:
        async for each in POLICY:
            async with each:
                tokens.append(budget.tokens)
                raise_one([ConnectionError()] if each.number < 3 else [])

    async def plain_job() -> None:
        for each in POLICY:
            with each:
                tokens.append(budget.tokens)
                raise_one([ConnectionError()] if each.number < 3 else [])

    for make in (job, plain_job):
        budget.tokens = 500
        report = await run_all([make], overload=Overload(budget=budget))
        assert [outcome.attempts for outcome in report.succeeded] == [3]
        assert tokens == [500, 486, 472]
        assert budget.tokens == 486  # the price of the retry that succeeded has come back
        tokens.clear()


async def test_an_inner_block_that_gives_up_in_a_job() -> None:
    """The outer one makes no retry, so that the run pays for those of the inner one alone."""
    budget = Budget()

    async def job() -> None:
        async for outer in POLICY:
            async with outer:
                async for inner in POLICY:
                    async with inner:
                        raise ConnectionError

    report = await run_all([job], overload=Overload(budget=budget))
    assert [failure.attempts for failure in report.failed] == [3]
    assert budget.tokens == 500 - 2 * 14


async def test_a_run_that_refuses_a_retry_ends_the_block() -> None:
    """By the error of the last attempt, raised where the loop waits."""

    async def job() -> None:
        async for each in POLICY:
            async with each:
                raise ConnectionError

    async def plain_job() -> None:
        for each in POLICY:
            with each:
                raise ConnectionError

    report = await run_all([job, plain_job] * 3, overload=Overload(Budget(capacity=0), "fail"), limit=1)
    assert {failure.reason for failure in report.failed} <= {Reason.BUDGET, Reason.EXHAUSTED}
    report = await run_all(
        [job, plain_job] * 30, overload=Overload(Budget(capacity=0), first_pause=0.001, longest_pause=0.001, probes=1)
    )
    assert {failure.reason for failure in report.failed} >= {Reason.BUDGET}


# Memory


@pytest.mark.parametrize("policy", [POLICY, POLICY.replace(deadline=50)])
async def test_blocks_leave_no_cycle(policy: Policy) -> None:
    """Neither by success, nor by any failure."""

    async def block(ends: list[BaseException | None]) -> None:
        async for each in policy:
            async with each:
                raise_one(ends)

    async def plain_block(ends: list[BaseException | None]) -> None:
        for each in policy:
            with each:
                raise_one(ends)

    gc.collect()
    for make in (block, plain_block):
        same = ConnectionError("same")
        for ends in (
            [None],
            [ConnectionError(), None],
            [LookupError()],
            [same] * 3,
            [ConnectionError() for _ in "123"],
        ):
            await asyncio.gather(make(list(ends)), return_exceptions=True)
        del same, ends
    assert gc.collect() == 0


# Many at once


async def attempts_of(policy: Policy, failures: int) -> int:
    made = 0
    async for each in policy:
        async with each:
            made += 1
            await asyncio.sleep(0)
            assert each.number == attempt().number == made
            if made <= failures:
                raise ConnectionError(made)
    return made


def plain_attempts_of(policy: Policy, failures: int) -> int:
    made = 0
    for each in policy:
        with each:
            made += 1
            assert each.number == attempt().number == made
            if made <= failures:
                raise ConnectionError(made)
    return made


@pytest.mark.slow
def test_tasks_and_threads_that_share_a_policy_never_see_each_other() -> None:
    """50 tasks and 8 threads iterate one policy 10,000 times: every count is right."""
    policy = POLICY.replace(max_retries=4)
    wrong: list[tuple[int, int]] = []

    def in_thread(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10_000 // 8):
            failures = chance.randrange(4)
            made = plain_attempts_of(policy, failures)
            if made != failures + 1:
                wrong.append((failures, made))

    async def task(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(10_000 // 50):
            failures = chance.randrange(4)
            made = await attempts_of(policy, failures)
            if made != failures + 1:
                wrong.append((failures, made))

    async def tasks() -> None:
        await asyncio.gather(*map(task, range(50)))

    threads = [threading.Thread(target=in_thread, args=(seed,)) for seed in range(8)]
    for each in threads:
        each.start()
    asyncio.run(tasks())
    for each in threads:
        each.join()
    assert wrong == []
