"""Waits, attempt_timeout, deadline and gate, by the loop's own clock."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import pytest

from aiosupervise import (
    AttemptFailed,
    AttemptTimeout,
    Backoff,
    Budget,
    DeadlineExceeded,
    GiveUp,
    Policy,
    Reason,
    RetryAfter,
    listen,
    verdict,
)

from .endings import Kept, error_of, verdict_of
from .forms import Supervise, now, only_async, pass_time

pytestmark = pytest.mark.looptime

BASE = Policy(retry_on=ConnectionError, backoff=Backoff(0))


class Attempts:
    """A function whose attempts take these seconds each and end with an error; the last one repeats."""

    def __init__(self, *seconds: float, error: type[Exception] = ConnectionError) -> None:
        self.seconds = seconds
        self.error = error
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.made = now()

    async def __call__(self) -> None:
        self.times.append(now() - self.made)
        await pass_time(self.seconds[min(len(self.times), len(self.seconds)) - 1])
        self.errors.append(self.error())
        raise self.errors[-1]


# Promise 5: waiting


async def test_backoff_is_waited(supervise: Supervise) -> None:
    """Before retry n, counted from 0, the call waits for the delay of the backoff for n."""
    attempts = Attempts(0)
    backoff = Backoff(base=1, factor=3, cap=5, jitter="none")
    await error_of(supervise(BASE.replace(backoff=backoff, max_retries=4))(attempts)())
    assert attempts.times == pytest.approx([0, 1, 4, 9, 14])


@pytest.mark.parametrize("backoff", [[1, 2], (1, 2), range(1, 3), {1: "", 2: ""}.keys()], ids=repr)
async def test_schedule_of_seconds(backoff: list[float], supervise: Supervise) -> None:
    """The seconds of an iterable are waited one after another, and the last one repeats; each call starts anew."""
    func = supervise(BASE.replace(backoff=backoff))(attempts := Attempts(0))
    await error_of(func())
    await error_of(func())
    assert attempts.times == pytest.approx([0, 1, 3, 5, 5, 6, 8, 10])


async def test_function_as_backoff(supervise: Supervise) -> None:
    """Any function (n, error) -> seconds can be the backoff; it gets the error that ended the attempt."""
    calls: list[tuple[int, Exception]] = []

    def backoff(n: int, error: Exception) -> float:
        calls.append((n, error))
        return 10 * (n + 1)

    attempts = Attempts(0)
    await error_of(supervise(BASE.replace(backoff=backoff, max_retries=2))(attempts)())
    assert attempts.times == pytest.approx([0, 10, 30])
    assert calls == [(0, attempts.errors[0]), (1, attempts.errors[1])]


async def test_full_jitter_stays_within_the_ladder(supervise: Supervise) -> None:
    """With jitter, each wait is drawn from 0 up to the ladder's step, and they differ."""
    attempts = Attempts(0)
    await error_of(supervise(BASE.replace(backoff=Backoff(1, 2, 16), max_retries=40))(attempts)())
    waits = [later - sooner for sooner, later in zip(attempts.times, attempts.times[1:], strict=False)]
    assert all(0 <= wait <= min(16, 2.0**n) + 1e-6 for n, wait in enumerate(waits))
    assert len({round(wait, 4) for wait in waits}) > 30


class ServerError(ConnectionError):
    retry_after = 7.0


def busy() -> Exception:
    return RetryAfter(7)


@pytest.mark.parametrize(
    ("retry_on", "error"),
    [(ValueError, busy), (ServerError, ServerError), (lambda _: 7, ConnectionError), (lambda _: 7, ServerError)],
    ids=["RetryAfter", "attribute", "predicate", "predicate and attribute"],
)
@pytest.mark.parametrize("backoff", [0, 2])
async def test_retry_after_is_waited_and_the_backoff_on_top(
    supervise: Supervise, retry_on: type[Exception], error: Callable[[], Exception], backoff: float
) -> None:
    """A retry-after, wherever it comes from, is waited in full, and the backoff on top of it."""
    times: list[float] = []

    @supervise(retry_on=retry_on, backoff=[backoff], max_retries=2)
    async def func() -> None:
        times.append(now())
        raise error()

    await error_of(func())
    assert [time - times[0] for time in times] == pytest.approx([0, 7 + backoff, 14 + 2 * backoff])


@pytest.mark.parametrize(("longest", "waits"), [(60.0, False), (61.0, True), (None, True)])
async def test_retry_after_above_the_limit_gives_up(longest: float | None, waits: bool, supervise: Supervise) -> None:  # noqa: FBT001
    """A retry-after above max_retry_after is not waited: the call gives up at once. None means no limit."""
    times: list[float] = []

    @supervise(BASE.replace(max_retry_after=longest, max_retries=1))
    async def func() -> None:
        times.append(now())
        raise RetryAfter(61)

    given_up = verdict_of(await error_of(func()))
    assert given_up.reason is (Reason.EXHAUSTED if waits else Reason.RETRY_AFTER_TOO_LONG)
    assert len(times) == 1 + waits


async def test_a_minute_by_default() -> None:
    """Sixty seconds are the longest retry-after that is waited, unless the policy sets another limit."""
    assert BASE.max_retry_after == 60


# Promise 6: attempt_timeout


@only_async
async def test_attempt_timeout_bounds_each_attempt_and_is_retried(supervise: Supervise) -> None:
    """Each attempt has its own time; AttemptTimeout is transient without being listed."""
    attempts = Attempts(9)
    error = await error_of(supervise(BASE.replace(attempt_timeout=2, backoff=[1], max_retries=2))(attempts)())
    assert attempts.times == pytest.approx([0, 3, 6])
    assert now() - attempts.made == pytest.approx(8)
    assert type(error) is AttemptTimeout
    assert isinstance(error, TimeoutError)
    assert error.seconds == 2
    assert str(error) == "the attempt took longer than attempt_timeout=2 s"
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert verdict_of(error).reason is Reason.EXHAUSTED


@only_async
async def test_attempt_timeout_then_success(supervise: Supervise) -> None:
    """A call whose first attempt hung and whose second answers is a success."""
    attempts = 0

    @supervise(BASE.replace(attempt_timeout=2))
    async def func() -> str:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(9 if attempts == 1 else 1)
        return "done"

    assert await func() == "done"
    assert attempts == 2


@only_async
@pytest.mark.parametrize("irrecoverable", [TimeoutError, AttemptTimeout])
async def test_attempt_timeout_can_be_irrecoverable(irrecoverable: type[Exception], supervise: Supervise) -> None:
    """Where timeouts are irrecoverable, the first one ends the call."""
    attempts = Attempts(9)
    error = await error_of(supervise(BASE.replace(attempt_timeout=2, irrecoverable=irrecoverable))(attempts)())
    assert type(error) is AttemptTimeout
    assert verdict_of(error).reason is Reason.IRRECOVERABLE
    assert len(attempts.times) == 1


@pytest.mark.parametrize("limits", [{"attempt_timeout": 5.0}, {"deadline": 5.0}], ids=str)
@pytest.mark.parametrize("listed", [False, True])
async def test_timeout_error_of_the_functions_own(limits: dict[str, float], listed: bool, supervise: Supervise) -> None:  # noqa: FBT001
    """A TimeoutError that the function raised is its own: it is retried only if the policy lists it."""
    attempts = Attempts(1, error=TimeoutError)
    retry_on = TimeoutError if listed else ConnectionError
    error = await error_of(
        supervise(
            BASE.replace(
                retry_on=retry_on,
                max_retries=2,
                attempt_timeout=limits.get("attempt_timeout"),
                deadline=limits.get("deadline"),
            )
        )(attempts)()
    )
    assert error is attempts.errors[-1]
    assert len(attempts.times) == (3 if listed else 1)


@only_async
@pytest.mark.parametrize("limits", [(5.0, None), (None, 5.0), (5.0, 5.0)], ids=str)
async def test_timeout_error_of_the_functions_own_at_expiry(
    limits: tuple[float | None, float | None], supervise: Supervise
) -> None:
    """An error that the function raises when interrupted is its own: only its CancelledError means a timeout."""
    own = TimeoutError("mine")

    @supervise(BASE.replace(attempt_timeout=limits[0], deadline=limits[1]))
    async def func() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise own from None

    assert await error_of(func()) is own
    assert verdict(own) is None


@only_async
@pytest.mark.parametrize("limits", [(5.0, None), (None, 5.0)], ids=str)
async def test_value_returned_at_expiry_is_a_success(
    limits: tuple[float | None, float | None], supervise: Supervise
) -> None:
    """A function that returns a value when it is interrupted has succeeded."""

    @supervise(BASE.replace(attempt_timeout=limits[0], deadline=limits[1]))
    async def func() -> str:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            return "what there is"
        return "all"

    assert await func() == "what there is"


@only_async
@pytest.mark.parametrize("limits", [(5.0, None), (None, 5.0)], ids=str)
async def test_cancelled_error_of_the_functions_own(
    limits: tuple[float | None, float | None], supervise: Supervise
) -> None:
    """A CancelledError that the function raised by itself, before its time was up, is not a timeout."""

    @supervise(BASE.replace(attempt_timeout=limits[0], deadline=limits[1]))
    async def func() -> None:
        await asyncio.sleep(1)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await func()


@only_async
@pytest.mark.parametrize("limits", [(5.0, None), (None, 5.0), (5.0, 5.0)], ids=str)
async def test_cancel_from_outside_in_the_tick_of_the_expiry(
    limits: tuple[float | None, float | None], supervise: Supervise
) -> None:
    """A cancel of the caller that comes in the very tick of an expiry is not lost in it."""
    attempts = Attempts(9)
    task = asyncio.create_task(supervise(BASE.replace(attempt_timeout=limits[0], deadline=limits[1]))(attempts)())
    asyncio.get_running_loop().call_later(5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(attempts.times) == 1


# Promise 6: deadline


@only_async
async def test_deadline_interrupts_an_attempt(supervise: Supervise) -> None:
    """If a deadline interrupts an attempt, DeadlineExceeded is raised from the last error."""
    attempts = Attempts(1, 9)
    error = await error_of(supervise(BASE.replace(deadline=5))(attempts)())
    assert now() - attempts.made == pytest.approx(5)
    assert type(error) is DeadlineExceeded
    assert isinstance(error, TimeoutError)
    assert error.seconds == 5
    assert str(error) == "the call was not done within deadline=5 s"
    assert error.__cause__ is attempts.errors[0]
    given_up = verdict_of(error)
    assert (given_up.attempts, given_up.reason) == (2, Reason.DEADLINE)
    assert given_up.elapsed == pytest.approx(4)


@only_async
async def test_deadline_interrupts_the_first_attempt(supervise: Supervise) -> None:
    """If no attempt has failed before the deadline, the cause shows where the attempt was interrupted."""
    error = await error_of(supervise(BASE.replace(deadline=5))(Attempts(9))())
    assert type(error) is DeadlineExceeded
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert verdict_of(error).attempts == 1


@only_async
async def test_deadline_is_not_retried(supervise: Supervise) -> None:
    """DeadlineExceeded ends the call also where TimeoutError is listed as transient."""
    attempts = Attempts(9)
    error = await error_of(supervise(BASE.replace(retry_on=TimeoutError, deadline=5))(attempts)())
    assert type(error) is DeadlineExceeded
    assert len(attempts.times) == 1


async def test_no_wait_is_started_that_would_end_after_the_deadline(supervise: Supervise) -> None:
    """Where the next wait would not end in time, the call gives up at once with the last error."""
    attempts = Attempts(1)
    error = await error_of(supervise(BASE.replace(deadline=5, backoff=[2]))(attempts)())
    assert attempts.times == pytest.approx([0, 3])
    assert now() - attempts.made == pytest.approx(4)
    assert error is attempts.errors[-1]
    given_up = verdict_of(error)
    assert (given_up.attempts, given_up.reason) == (2, Reason.DEADLINE)


async def test_a_retry_that_the_deadline_rules_out_is_neither_announced_nor_charged(supervise: Supervise) -> None:
    """The event of the attempt has no wait, and the tokens stay in the budget."""
    budget = Budget()
    func = supervise(BASE.replace(deadline=5, backoff=[3], budget=budget))(Attempts(0))
    with listen(kept := Kept()):
        assert verdict_of(await error_of(func())).reason is Reason.DEADLINE
    assert [event.wait for event in kept.only(AttemptFailed)] == [3.0, None]
    assert budget.tokens == budget.capacity - budget.cost


async def test_deadline_bounds_a_retry_after(supervise: Supervise) -> None:
    """A retry-after that would end after the deadline is not waited either."""
    started = now()

    @supervise(BASE.replace(deadline=5))
    async def func() -> None:
        raise RetryAfter(6)

    assert verdict_of(await error_of(func())).reason is Reason.DEADLINE
    assert now() == started


@only_async
async def test_deadline_counts_for_each_call_anew(supervise: Supervise) -> None:
    """The deadline runs from the start of each call, not from the decoration or the call before."""
    func = supervise(BASE.replace(deadline=5))(attempts := Attempts(9))
    for _ in range(2):
        assert type(await error_of(func())) is DeadlineExceeded
    assert attempts.times == pytest.approx([0, 5])


@only_async
async def test_deadline_that_passed_during_a_blocking_attempt(supervise: Supervise) -> None:
    """An attempt that ends after the deadline with an error of its own gives that error, and no further attempt."""
    attempts = 0

    @supervise(BASE.replace(deadline=5))
    async def func() -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise ConnectionError from None

    error = await error_of(func())
    assert type(error) is ConnectionError
    assert verdict_of(error).reason is Reason.DEADLINE
    assert attempts == 1


@only_async
@pytest.mark.parametrize("late", [0, 1])
async def test_deadline_that_passes_before_the_call_is_resumed(
    late: float, monkeypatch: pytest.MonkeyPatch, supervise: Supervise
) -> None:
    """Where a busy loop wakes the call at its deadline or after, no attempt begins: DeadlineExceeded at once."""
    loop = asyncio.get_running_loop()
    attempts = Attempts(0)
    call = asyncio.create_task(supervise(BASE.replace(deadline=5, backoff=[4]))(attempts)())
    await asyncio.sleep(1)
    on_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: on_time() + 4 + late)
    error = await error_of(as_coroutine(call))
    assert type(error) is DeadlineExceeded
    assert error.seconds == 5
    assert error.__cause__ is attempts.errors[0]
    assert len(attempts.times) == 1


async def as_coroutine(task: asyncio.Task[None]) -> None:
    await task


@only_async
@pytest.mark.parametrize(("attempt_timeout", "kind"), [(5.0, DeadlineExceeded), (4.9, AttemptTimeout)])
async def test_both_limits_in_one_tick(attempt_timeout: float, kind: type[Exception], supervise: Supervise) -> None:
    """If both limits end an attempt in the same tick, the deadline takes precedence."""
    error = await error_of(
        supervise(BASE.replace(deadline=5, attempt_timeout=attempt_timeout, backoff=[1]))(Attempts(9))()
    )
    assert type(error) is kind
    assert verdict_of(error).reason is Reason.DEADLINE


@only_async
async def test_inner_calls_timeout_is_classified_as_any_error(supervise: Supervise) -> None:
    """A timeout that an inner call raised, kept and raised later, is transient for the outer one only if listed."""
    kept = await error_of(supervise(BASE.replace(attempt_timeout=1, max_retries=0))(Attempts(9))())
    assert type(kept) is AttemptTimeout
    attempts = 0

    async def func() -> None:
        nonlocal attempts
        attempts += 1
        raise kept

    assert await error_of(supervise(BASE)(func)()) is kept
    assert attempts == 1
    assert await error_of(supervise(BASE.replace(retry_on=TimeoutError))(func)()) is kept
    assert attempts == 5


@only_async
@pytest.mark.parametrize("limit", ["attempt_timeout", "deadline"])
@pytest.mark.parametrize(
    "overruling",
    [None, GiveUp, lambda: RetryAfter(0), lambda: RetryAfter(99)],
    ids=["alone", "give up", "retry", "retry after too long"],
)
@pytest.mark.parametrize(
    "policy",
    [
        BASE.replace(retry_on=OSError, max_retries=2),
        BASE.replace(retry_on=OSError, deadline=3, backoff=[2]),
        BASE.replace(irrecoverable=TimeoutError),
        BASE,
    ],
    ids=["exhausted", "no time left", "irrecoverable", "not listed"],
)
async def test_the_timeout_of_another_call_keeps_its_cause(
    supervise: Supervise, limit: str, overruling: Callable[[], Exception] | None, policy: Policy
) -> None:
    """The last error of this call is the cause of its own DeadlineExceeded only, not of one that it has been given."""
    with_limit = BASE.replace(max_retries=0, **{limit: 1})  # type: ignore[arg-type]  # a limit in seconds
    kept = await error_of(supervise(with_limit)(Attempts(9))())
    cause, context = kept.__cause__, kept.__context__
    attempts = 0

    async def func() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ConnectionError
        if overruling is None:
            raise kept
        raise overruling() from kept

    assert await error_of(supervise(policy)(func)()) is kept
    assert kept.__cause__ is cause
    assert kept.__context__ is context
    assert isinstance(cause, asyncio.CancelledError)


@pytest.mark.parametrize(("deadline", "cause"), [(None, None), (None, KeyError()), (5, KeyError())], ids=repr)
@pytest.mark.parametrize("in_group", [False, True])
async def test_a_deadline_exceeded_that_is_raised_by_hand_keeps_its_cause(
    supervise: Supervise, deadline: float | None, cause: Exception | None, *, in_group: bool
) -> None:
    """It does, alone and in a group, under a policy with a deadline and under one without."""
    made = DeadlineExceeded(5)
    made.__cause__ = cause
    error = ExceptionGroup("", [made]) if in_group else made
    errors = [ConnectionError(), error]

    async def func() -> None:
        raise errors.pop(0)

    assert await error_of(supervise(BASE.replace(deadline=deadline))(func)()) is error
    assert made.__cause__ is cause
    assert error.__cause__ is (None if in_group else cause)


@only_async
@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.timeout does so since Python 3.13")
@pytest.mark.parametrize("limits", [{"attempt_timeout": 1}, {"deadline": 1}], ids=str)
async def test_an_error_of_the_clean_up_at_expiry_has_a_timeout_error_as_its_context(
    limits: dict[str, float], supervise: Supervise
) -> None:
    """As under `asyncio.timeout`, the traceback shows that the clean-up failed after the time limit had expired."""

    @supervise(retry_on=(), **limits)
    async def fetch() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise LookupError

    error = await error_of(fetch())
    assert isinstance(error, LookupError)
    assert isinstance(error.__context__, TimeoutError)


@only_async
async def test_error_that_cannot_be_hashed_under_a_deadline(supervise: Supervise) -> None:
    """An error that is a plain dataclass, and so not hashable, is kept as the last error like any other."""

    class UnhashableError(ConnectionError):
        __hash__ = None  # type: ignore[assignment]  # as a dataclass has it

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self)

    attempts = Attempts(1, 9, error=UnhashableError)
    error = await error_of(supervise(BASE.replace(deadline=5))(attempts)())
    assert type(error) is DeadlineExceeded
    assert error.__cause__ is attempts.errors[0]


async def test_errors_in_a_circle_under_a_deadline(supervise: Supervise) -> None:
    """Errors that are each other's cause are kept like any other, and keeping them terminates."""
    one, two = ConnectionError("one"), ConnectionError("two")
    one.__cause__, two.__cause__ = two, one

    @supervise(retry_on=ConnectionError, deadline=5, backoff=[1], max_retries=1)
    async def func() -> None:
        raise one

    assert await error_of(func()) is one
    assert one.__cause__ is two


# Promise 11: gate


class Gate(AbstractAsyncContextManager[None, None]):
    """Records when it is entered and left; entering takes some time."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.passages: list[tuple[float, str]] = []

    async def __aenter__(self) -> None:
        await asyncio.sleep(self.seconds)
        self.passages.append((now(), "in"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.passages.append((now(), f"out {kind.__name__ if kind else ''}"))


async def test_every_attempt_runs_inside_the_gate_and_no_wait_does(supervise: Supervise) -> None:
    """The gate is entered before each attempt and left after it, before the wait."""
    gate = Gate()
    started = now()
    await error_of(supervise(BASE.replace(gate=gate, backoff=[10], max_retries=1))(Attempts(1))())
    passages = [(round(time - started, 3), what) for time, what in gate.passages]
    assert passages == [(0, "in"), (1, "out ConnectionError"), (11, "in"), (12, "out ConnectionError")]


@only_async
@pytest.mark.parametrize("gate", [asyncio.Lock, asyncio.Semaphore], ids=["Lock", "Semaphore"])
async def test_a_semaphore_as_gate(gate: Callable[[], asyncio.Semaphore], supervise: Supervise) -> None:
    """Two calls behind a gate with one slot alternate: one attempts while the other waits for its retry."""
    running = 0
    spans: list[tuple[float, float]] = []

    @supervise(BASE.replace(gate=gate(), backoff=[2], max_retries=1))
    async def func() -> None:
        nonlocal running
        running += 1
        assert running == 1
        began = now()
        await asyncio.sleep(1)
        spans.append((began, now()))
        running -= 1
        raise ConnectionError

    started = now()
    await asyncio.gather(func(), func(), return_exceptions=True)
    assert [began - started for began, _ in spans] == pytest.approx([0, 1, 3, 4])


@only_async
async def test_waiting_for_the_gate_counts_for_the_deadline(supervise: Supervise) -> None:
    """A call that does not get through its gate in time ends with DeadlineExceeded, and its function never ran."""
    attempts = Attempts(0)
    error = await error_of(supervise(BASE.replace(gate=Gate(9), deadline=5))(attempts)())
    assert type(error) is DeadlineExceeded
    assert attempts.times == []


@only_async
async def test_waiting_for_the_gate_does_not_count_for_the_attempt(supervise: Supervise) -> None:
    """attempt_timeout runs from the moment when the attempt is through the gate."""
    attempts = Attempts(9)
    policy = BASE.replace(gate=Gate(30), attempt_timeout=2, max_retries=1)
    assert type(await error_of(supervise(policy)(attempts)())) is AttemptTimeout
    assert attempts.times == pytest.approx([30, 62])


@only_async
async def test_cancel_while_waiting_for_the_gate(supervise: Supervise) -> None:
    """A cancel that comes while a call waits for its gate ends it, and the slot of the gate is free again."""
    gate = asyncio.Semaphore(1)
    func = supervise(BASE.replace(gate=gate, max_retries=0))(Attempts(10))
    first, second = asyncio.create_task(func()), asyncio.create_task(func())
    asyncio.get_running_loop().call_later(5, second.cancel)
    await asyncio.wait([first, second])
    assert isinstance(first.exception(), ConnectionError)
    assert second.cancelled()
    assert not gate.locked()


async def test_a_deadline_leaves_the_error_that_the_caller_handles_alone(supervise: Supervise) -> None:
    """A failed attempt under a deadline is stripped of its frames, but not the error around the call."""
    failures = [ConnectionError()]

    @supervise(retry_on=ConnectionError, deadline=5, backoff=[0])
    async def func() -> None:
        if failures:
            raise failures.pop()

    kept: list[bool] = []
    try:
        int("the caller's")
    except ValueError as error:
        await func()
        kept.append(error.__traceback__ is not None)
    assert kept == [True]
