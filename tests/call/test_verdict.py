"""The verdict: a note on the error that states, for people and programs, why a call gave up."""

import copy
import dataclasses
import pickle
from collections.abc import Callable, Coroutine
from typing import Protocol

import pytest

from aiosupervise import (
    Backoff,
    Policy,
    Reason,
    RetryAfter,
    Verdict,
    verdict,
)
from aiosupervise._policy.verdict import _SerialNumbers

from .endings import error_of, verdict_of
from .forms import Supervise, pass_time

BASE = Policy(retry_on=ConnectionError, backoff=Backoff(0))


class Failing(Protocol):
    """Makes a call whose attempts raise these errors, one after another."""

    def __call__(self, *errors: Exception, policy: Policy = BASE) -> Coroutine[object, None, None]: ...


@pytest.fixture
def failing(supervise: Supervise) -> Failing:
    """Such a call in each of the forms."""

    def make(*errors: Exception, policy: Policy = BASE) -> Coroutine[object, None, None]:
        rest = list(errors)

        @supervise(policy)
        async def func() -> None:
            raise rest.pop(0)

        return func()

    return make


@pytest.mark.looptime
async def test_the_note(supervise: Supervise) -> None:
    """The note states the attempts, the time and the reason; then it has a line for each earlier error."""

    @supervise(BASE.replace(backoff=[1, 2], max_retries=2))
    async def func() -> None:
        await pass_time(5)
        raise ConnectionError("busy")

    error = await error_of(func())
    text = (
        "gave up after 3 attempts, 13.00 s after the first failure: retries exhausted\n"
        "  attempt 1: ConnectionError: busy\n"
        "  attempt 2: ConnectionError: busy"
    )
    assert error.__notes__ == [text]
    given_up = verdict_of(error)
    assert given_up is error.__notes__[0]
    assert isinstance(given_up, str)
    assert (given_up.attempts, given_up.reason) == (3, Reason.EXHAUSTED)
    assert given_up.elapsed == pytest.approx(13)


async def test_one_attempt_in_the_singular(failing: Failing) -> None:
    """The note says "1 attempt"."""
    error = await error_of(failing(ConnectionError(), policy=BASE.replace(max_retries=0)))
    assert str(verdict(error)) == "gave up after 1 attempt, 0.00 s after the first failure: retries exhausted"


async def test_the_last_ten_errors_have_a_line(failing: Failing) -> None:
    """Of many earlier errors the last ten are listed."""
    errors = [ConnectionError(n) for n in range(1, 16)]
    error = await error_of(failing(*errors, policy=BASE.replace(max_retries=14)))
    assert str(verdict(error)).splitlines()[1:] == [f"  attempt {n}: ConnectionError: {n}" for n in range(5, 15)]


async def test_a_line_is_short(failing: Failing) -> None:
    """A long text is cut off and its lines are joined, so that a note never has a whole page."""
    error = await error_of(
        failing(
            ConnectionError("x" * 5000),
            ConnectionError("one\ntwo"),
            OSError("final"),
            policy=BASE.replace(irrecoverable=OSError),
        )
    )
    assert verdict_of(error).reason is Reason.IRRECOVERABLE
    error = await error_of(
        failing(
            ConnectionError("x" * 5000),
            ConnectionError("one\ntwo"),
            ConnectionError(),
            policy=BASE.replace(max_retries=2),
        )
    )
    _, long, multiple = str(verdict(error)).splitlines()
    assert 100 < len(long) <= 202
    assert multiple == "  attempt 2: ConnectionError: one two"


class SilentError(ConnectionError):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_error_whose_text_cannot_be_read(failing: Failing) -> None:
    """An earlier error whose text raises is listed with its type, and the call gives up as usual."""
    error = await error_of(failing(SilentError(), ConnectionError("last"), policy=BASE.replace(max_retries=1)))
    assert str(verdict(error)).splitlines()[1] == "  attempt 1: SilentError, whose message cannot be read"


async def test_an_earlier_error_is_listed_unwrapped(failing: Failing) -> None:
    """A RetryAfter from an error is listed as that error."""
    overruling = RetryAfter(0)
    overruling.__cause__ = KeyError("busy")
    error = await error_of(failing(overruling, ConnectionError(), policy=BASE.replace(max_retries=1)))
    assert str(verdict(error)).splitlines()[1] == "  attempt 1: KeyError: 'busy'"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("policy", "reason", "text"),
    [
        (BASE, Reason.EXHAUSTED, "retries exhausted"),
        (BASE.replace(irrecoverable=ConnectionError), Reason.IRRECOVERABLE, "irrecoverable"),
        (BASE.replace(deadline=5, backoff=[9]), Reason.DEADLINE, "deadline"),
        (BASE.replace(retry_on=lambda _: 61), Reason.RETRY_AFTER_TOO_LONG, "retry-after too long"),
    ],
    ids=["exhausted", "irrecoverable", "deadline", "retry-after too long"],
)
async def test_every_reason(policy: Policy, reason: Reason, text: str, failing: Failing) -> None:
    """Each reason to give up is stated in words and as a member of Reason."""
    errors = [ConnectionError() for _ in range(4)]
    given_up = verdict_of(await error_of(failing(*errors, policy=policy)))
    assert given_up.reason is reason
    assert given_up.splitlines()[0].endswith(f": {text}")


def test_reasons_are_a_closed_set() -> None:
    """There are as many reasons as the tests above have."""
    assert {reason.name for reason in Reason} == {
        "EXHAUSTED",
        "IRRECOVERABLE",
        "DEADLINE",
        "RETRY_AFTER_TOO_LONG",
        "BUDGET",
        "USED_UP",
    }


async def test_no_verdict() -> None:
    """An error that no supervised call gave up on has no verdict, whatever other notes it has."""
    error = ValueError()
    assert verdict(error) is None
    error.add_note("by hand")
    assert verdict(error) is None
    assert verdict(KeyboardInterrupt()) is None


@pytest.mark.parametrize("notes", [None, 7, ("a", "tuple")], ids=repr)
async def test_notes_of_another_kind(notes: object, failing: Failing) -> None:
    """If the notes of an error have been replaced by another object, the call gives up as usual."""
    error = ConnectionError()
    error.__notes__ = notes  # type: ignore[assignment]  # the case in question
    assert verdict(error) is None
    assert await error_of(failing(error, policy=BASE.replace(max_retries=0))) is error
    assert verdict_of(error).attempts == 1


async def test_other_notes_are_kept(failing: Failing) -> None:
    """The user's own notes stay, before the verdict."""
    error = ConnectionError()
    error.add_note("by hand")
    await error_of(failing(error, policy=BASE.replace(max_retries=0)))
    assert error.__notes__[0] == "by hand"
    assert error.__notes__[1] == verdict(error)
    assert len(error.__notes__) == 2


@dataclasses.dataclass(frozen=True)
class FrozenError(ConnectionError):
    code: int


async def test_verdict_on_a_frozen_error(failing: Failing) -> None:
    """An error that refuses new attributes, such as a frozen dataclass, gets a verdict too."""
    error = FrozenError(503)
    assert await error_of(failing(error, policy=BASE.replace(max_retries=0))) is error
    assert verdict_of(error).attempts == 1


@pytest.mark.looptime
async def test_elapsed_counts_from_the_first_failure(failing: Failing) -> None:
    """The elapsed time of a call that gives up after its first attempt is 0."""
    assert verdict_of(
        await error_of(failing(ConnectionError(), policy=BASE.replace(max_retries=0)))
    ).elapsed == pytest.approx(0)


@pytest.mark.parametrize("transfer", [copy.copy, copy.deepcopy, lambda given_up: pickle.loads(pickle.dumps(given_up))])  # noqa: S301
async def test_a_verdict_is_copied_and_pickled(transfer: Callable[[Verdict], object], failing: Failing) -> None:
    """The copy has the same text and the same fields."""
    given_up = verdict_of(
        await error_of(failing(ConnectionError(1), ConnectionError(2), policy=BASE.replace(max_retries=1)))
    )
    there = transfer(given_up)
    assert there == given_up
    assert isinstance(there, Verdict)
    assert (there.attempts, there.elapsed, there.reason) == (2, given_up.elapsed, Reason.EXHAUSTED)


async def test_a_verdict_is_pickled_without_its_serial_number(supervise: Supervise, failing: Failing) -> None:
    """A serial number has no meaning in another process, so an error with a pickled verdict is classified afresh."""
    received: list[Exception] = []

    @supervise(BASE.replace(retry_on=KeyError))
    async def receive() -> None:
        given_up = verdict_of(await error_of(failing(ConnectionError(), policy=BASE.replace(max_retries=0))))
        received.append(ConnectionError())
        received[-1].__notes__ = [pickle.loads(pickle.dumps(given_up))]  # noqa: S301
        raise received[-1]

    error = await error_of(supervise(BASE.replace(max_retries=1))(receive)())
    assert error is received[1]
    assert verdict_of(error).attempts == 2


def test_text_of_retry_after() -> None:
    """The text of a RetryAfter states its seconds."""
    assert str(RetryAfter(2)) == "retry after 2 s"


def test_numbers_begin_with_one() -> None:
    """The first verdict of a process has number 1: 0 is for verdicts of other processes."""
    serial_numbers = _SerialNumbers()
    assert (serial_numbers.issued, serial_numbers.next(), serial_numbers.next()) == (0, 1, 2)


async def test_the_policys_name_comes_first(failing: Failing) -> None:
    """If the policy has a name, the note begins with it."""
    error = await error_of(failing(ConnectionError(), policy=BASE.replace(max_retries=0, name="login")))
    assert str(verdict(error)).startswith("login: gave up after 1 attempt, ")
