"""The events that a supervised call emits."""

import asyncio
import gc
from collections.abc import Coroutine

import pytest

from aiosupervise import (
    AttemptFailed,
    AttemptStarted,
    Budget,
    CallFinished,
    DeadlineExceeded,
    GaveUp,
    GiveUp,
    Policy,
    Reason,
    Recovered,
    listen,
)

from .endings import Kept
from .forms import Supervise, only_async, only_functions

pytestmark = pytest.mark.looptime

POLICY = Policy(retry_on=ConnectionError, irrecoverable=ValueError, backoff=[1.0], name="fetch")


class Script:
    """A function that raises each of these errors in turn, then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self._errors = list(errors)

    async def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"


async def events_of(supervise: Supervise, policy: Policy, script: Script) -> Kept:
    """Return the events of one call, however it ends, made some time after the loop began."""
    kept = Kept()
    await asyncio.sleep(3)
    with listen(kept):
        await asyncio.gather(supervise(policy)(script)(), return_exceptions=True)
    return kept


EVERY_WRAPPER = pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        POLICY.replace(deadline=100),
        POLICY.replace(attempt_timeout=100),
        POLICY.replace(budget=Budget()),
        POLICY.replace(gate=asyncio.Semaphore()),
    ],
    ids=["plain", "deadline", "attempt_timeout", "budget", "gate"],
)


@EVERY_WRAPPER
async def test_a_call_that_succeeds_at_once(policy: Policy, supervise: Supervise) -> None:
    """It emits one AttemptStarted and one CallFinished."""
    kept = await events_of(supervise, policy, Script())
    started, finished = kept
    assert isinstance(started, AttemptStarted)
    assert isinstance(finished, CallFinished)
    assert (started.name, started.attempt, started.run, started.job) == ("fetch", 1, None, None)
    assert (finished.call, finished.attempts, finished.error) == (started.call, 1, None)


@EVERY_WRAPPER
async def test_a_call_that_recovers(policy: Policy, supervise: Supervise) -> None:
    """Each AttemptFailed is emitted before its wait and holds the wait's length; Recovered follows at the end."""
    first, second = ConnectionError("first"), ConnectionError("second")
    kept = await events_of(supervise, policy, Script(first, second))
    call = kept[0].call if isinstance(kept[0], AttemptStarted) else 0
    assert kept == [
        AttemptStarted(call, "fetch", None, None, 1),
        AttemptFailed(call, "fetch", None, None, 1, first, 1.0),
        AttemptStarted(call, "fetch", None, None, 2),
        AttemptFailed(call, "fetch", None, None, 2, second, 1.0),
        AttemptStarted(call, "fetch", None, None, 3),
        Recovered(call, "fetch", None, None, 3, 2.0),
        CallFinished(call, "fetch", None, None, 3, None),
    ]


@EVERY_WRAPPER
async def test_a_call_that_is_given_up(policy: Policy, supervise: Supervise) -> None:
    """The last AttemptFailed has no wait; GaveUp holds the reason, CallFinished the error that the caller gets."""
    errors = [ConnectionError(number) for number in range(4)]
    kept = await events_of(supervise, policy, Script(*errors))
    *_, failed, gave_up, finished = kept
    assert isinstance(failed, AttemptFailed)
    assert (failed.attempt, failed.wait, failed.error) == (4, None, errors[3])
    assert isinstance(gave_up, GaveUp)
    assert (gave_up.attempts, gave_up.elapsed, gave_up.reason) == (4, 3.0, Reason.EXHAUSTED)
    assert gave_up.error is errors[3]
    assert isinstance(finished, CallFinished)
    assert finished.attempts == 4
    assert finished.error is errors[3]


@EVERY_WRAPPER
async def test_an_error_that_the_policy_does_not_list(policy: Policy, supervise: Supervise) -> None:
    """No GaveUp is emitted: only AttemptFailed and CallFinished."""
    error = KeyError()
    kept = await events_of(supervise, policy, Script(error))
    assert kept.names() == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert [event.error for event in kept if isinstance(event, AttemptFailed | CallFinished)] == [error, error]


async def test_an_error_that_overrules_the_policy_is_emitted_unwrapped(supervise: Supervise) -> None:
    """Listeners get the error that a GiveUp was raised from, as the caller does."""
    meant = KeyError()
    unwrap = GiveUp()
    unwrap.__cause__ = meant
    kept = await events_of(supervise, POLICY, Script(unwrap))
    assert [event.error for event in kept.only(AttemptFailed)] == [meant]
    assert [event.error for event in kept.only(GaveUp)] == [meant]


@only_async
async def test_an_attempt_that_the_deadline_ends(supervise: Supervise) -> None:
    """The attempt fails with a DeadlineExceeded, and the reason for giving up is the deadline."""

    @supervise(POLICY.replace(deadline=5))
    async def hang() -> None:
        await asyncio.sleep(100)

    kept = Kept()
    with listen(kept), pytest.raises(DeadlineExceeded):
        await hang()
    assert kept.names() == ["AttemptStarted", "AttemptFailed", "GaveUp", "CallFinished"]
    assert isinstance(kept.only(AttemptFailed)[0].error, DeadlineExceeded)
    assert kept.only(GaveUp)[0].reason is Reason.DEADLINE


@only_async
async def test_cancelled_in_an_attempt(supervise: Supervise) -> None:
    """The call ends with the CancelledError, and no AttemptFailed is emitted."""

    @supervise(POLICY)
    async def hang() -> None:
        await asyncio.sleep(100)

    kept = await events_of_cancelled(hang())
    assert kept.names() == ["AttemptStarted", "CallFinished"]
    assert isinstance(kept.only(CallFinished)[0].error, asyncio.CancelledError)


@only_async
async def test_cancelled_in_a_wait(supervise: Supervise) -> None:
    """The call ends with the CancelledError after the attempts that it had made."""
    kept = await events_of_cancelled(supervise(POLICY.replace(backoff=[50]))(Script(ConnectionError()))())
    assert kept.names() == ["AttemptStarted", "AttemptFailed", "CallFinished"]
    assert kept.only(CallFinished)[0].attempts == 1


async def events_of_cancelled(call: Coroutine[object, None, object]) -> Kept:
    """Return the events of a call that is cancelled after two seconds."""
    kept = Kept()
    with listen(kept):
        task = asyncio.ensure_future(call)
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    return kept


@only_async
async def test_thrown_away(supervise: Supervise) -> None:
    """A call that the garbage collector closes half-way finishes with a GeneratorExit."""

    @supervise(POLICY)
    async def hang() -> None:
        await asyncio.sleep(100)

    kept = Kept()
    with listen(kept):
        call = hang()
        call.send(None)
        call.close()
        gc.collect()
    assert isinstance(kept.only(CallFinished)[0].error, GeneratorExit)


async def test_a_policy_that_breaks_down(supervise: Supervise) -> None:
    """The call ends with the error that the user's predicate raised."""

    def broken(_: Exception) -> bool:
        raise LookupError

    kept = await events_of(supervise, Policy(retry_on=broken), Script(ConnectionError()))
    assert kept.names() == ["AttemptStarted", "CallFinished"]
    assert isinstance(kept.only(CallFinished)[0].error, LookupError)


async def test_layers(supervise: Supervise) -> None:
    """Each layer emits its own events; the outer one does not give up again on the inner one's error."""

    @supervise(POLICY.replace(name="outer"))
    async def outer() -> None:
        await supervise(POLICY.replace(name="inner", max_retries=0))(Script(ConnectionError()))()

    kept = Kept()
    with listen(kept), pytest.raises(ConnectionError):
        await outer()
    assert [(type(event).__name__, getattr(event, "name")) for event in kept] == [  # noqa: B009 - of any event
        ("AttemptStarted", "outer"),
        ("AttemptStarted", "inner"),
        ("AttemptFailed", "inner"),
        ("GaveUp", "inner"),
        ("CallFinished", "inner"),
        ("AttemptFailed", "outer"),
        ("CallFinished", "outer"),
    ]


@only_async
async def test_concurrent_calls_of_one_function_are_told_apart(supervise: Supervise) -> None:
    """Each call has a number of its own, and its events are consistent by themselves."""
    fails: dict[int, int] = {0: 0, 1: 1, 2: 2}

    @supervise(POLICY)
    async def fetch(number: int) -> None:
        await asyncio.sleep(0.3)
        if fails[number]:
            fails[number] -= 1
            raise ConnectionError

    kept = Kept()
    with listen(kept):
        await asyncio.gather(*map(fetch, range(3)))
    calls = {event.call for event in kept.only(AttemptStarted)}
    assert len(calls) == 3
    each = {call: [event for event in kept.only(CallFinished) if event.call == call] for call in calls}
    assert sorted(finished.attempts for [finished] in each.values()) == [1, 2, 3]


@only_functions
async def test_events_never_hold_arguments(supervise: Supervise) -> None:
    """No event holds the arguments of a call: they may be secret."""

    @supervise(POLICY.replace(max_retries=0))
    async def log_in(password: str, *, token: str) -> None:
        raise ConnectionError("refused" if password and token else "no password")

    kept = Kept()
    with listen(kept), pytest.raises(ConnectionError):
        await log_in("hunter2", token="hunter2")  # noqa: S106 - the test looks for it
    assert "hunter2" not in repr(list(kept))


async def test_listening_changes_nothing_for_the_caller(supervise: Supervise) -> None:
    """With a listener the caller gets the same error, verdict and traceback as without."""

    @supervise(POLICY.replace(max_retries=1))
    async def fetch() -> None:
        raise ConnectionError("down")

    ends = []
    for listener in (None, Kept()):
        try:
            if listener is None:
                await fetch()
            else:
                with listen(listener):
                    await fetch()
        except ConnectionError as error:
            traceback, names = error.__traceback__, []
            while traceback is not None:
                names.append(traceback.tb_frame.f_code.co_name)
                traceback = traceback.tb_next
            ends.append((str(error), error.__notes__, names))
    assert ends[0] == ends[1]
