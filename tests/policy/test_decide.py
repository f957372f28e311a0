"""Decisions, without a loop: made from a policy, an error, the number of attempts and the elapsed seconds."""

import itertools
import math

import pytest

from aiosupervise import AttemptTimeout, Backoff, DeadlineExceeded, GiveUp, Policy, Reason, RetryAfter
from aiosupervise._policy.classify import Irrecoverable, Transient, Unlisted, classify
from aiosupervise._policy.decide import PassThrough, Stop
from aiosupervise._policy.decide import decide as decide_on
from aiosupervise._policy.errors import unwrap

from .deciding import decide

BASE = Policy(retry_on=OSError, backoff=Backoff(0))
RETRY, PASS = 0.0, None


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def handling(error: Exception, context: BaseException) -> Exception:
    error.__context__ = context
    return error


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


class BusyError(OSError):
    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


STRICT = BASE.replace(irrecoverable=PermissionError)


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (OSError(), RETRY),
        (ConnectionError(), RETRY),
        (ValueError(), PASS),
        (PermissionError(), Reason.IRRECOVERABLE),
        (GiveUp(), Reason.IRRECOVERABLE),
        (caused(GiveUp(), OSError()), Reason.IRRECOVERABLE),
        (RetryAfter(3), 3.0),
        (RetryAfter(0), RETRY),
        (caused(RetryAfter(3), ValueError()), 3.0),
        (caused(RetryAfter(3), PermissionError()), Reason.IRRECOVERABLE),
        (handling(RetryAfter(3), PermissionError()), Reason.IRRECOVERABLE),
        (caused(handling(RetryAfter(3), PermissionError()), OSError()), 3.0),
        (caused(RetryAfter(3), group(OSError(), PermissionError())), Reason.IRRECOVERABLE),
        (caused(RetryAfter(3), caused(RetryAfter(9), PermissionError())), Reason.IRRECOVERABLE),
        (handling(RetryAfter(3), KeyboardInterrupt()), 3.0),
        (AttemptTimeout(1), RETRY),
        (DeadlineExceeded(1), Reason.DEADLINE),
        (group(OSError(), ConnectionError()), RETRY),
        (group(OSError(), group(ConnectionError(), AttemptTimeout(1))), RETRY),
        (group(OSError(), ValueError()), PASS),
        (group(OSError(), PermissionError()), Reason.IRRECOVERABLE),
        (group(ValueError(), group(group(PermissionError()))), Reason.IRRECOVERABLE),
        (group(OSError(), GiveUp()), Reason.IRRECOVERABLE),
        (group(RetryAfter(3), group(RetryAfter(5), OSError())), 5.0),
        (group(RetryAfter(3), ValueError()), PASS),
    ],
    ids=itertools.count(),
)
def test_who_decides(error: Exception, decision: float | Reason | None) -> None:
    """GiveUp, then irrecoverable, then RetryAfter, then retry_on; of a group the leaves decide; the rest passes."""
    assert decide(STRICT, error, 1, 0) == decision


def test_a_cycle_of_overruling_errors() -> None:
    """Two RetryAfter that are each other's cause stand for each other, and deciding terminates."""
    one, two = RetryAfter(1), RetryAfter(2)
    one.__cause__, two.__cause__ = two, one
    assert decide(STRICT, one, 1, 0) == 1.0


def test_a_group_that_holds_the_retry_after_raised_from_it() -> None:
    """Each leaf behind a RetryAfter is classified once, and no group is, even if the group contains the RetryAfter."""
    seen: list[Exception] = []
    leaf, overruling = OSError(), RetryAfter(3)
    overruling.__cause__ = group(leaf, overruling)

    def note(error: Exception) -> bool:
        seen.append(error)
        return False

    assert decide(BASE.replace(irrecoverable=note), overruling, 1, 0) == 3.0
    assert seen == [leaf]


@pytest.mark.parametrize(
    ("answer", "decision"), [(True, RETRY), (False, PASS), (None, PASS), (0, RETRY), (0.0, RETRY), (7, 7.0), (0.5, 0.5)]
)
def test_answers_of_a_predicate(answer: bool | float | None, decision: float | None) -> None:  # noqa: FBT001
    """A predicate returns yes, no, or the seconds to wait, 0 included; None means no."""
    assert decide(BASE.replace(retry_on=lambda _: answer), ValueError(), 1, 0) == decision


def test_predicates_get_every_leaf() -> None:
    """Predicates are called with the leaves of a group, never with the group."""
    seen: list[Exception] = []
    errors = [OSError(n) for n in range(3)]

    def note(error: Exception) -> bool:
        seen.append(error)
        return True

    decide(BASE.replace(retry_on=note), group(errors[0], group(errors[1], errors[2])), 1, 0)
    assert seen == errors


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (0.5, 0.5),
        (0, 0.0),
        (-4, 0.0),
        (math.nan, 0.0),
        (None, 0.0),
        (True, 0.0),
        ("5", 0.0),
        ([5], 0.0),
    ],
    ids=repr,
)
def test_retry_after_attribute(asked: object, waited: float) -> None:
    """A number in the error's `retry_after` is waited; any other value that libraries put there is ignored."""
    assert decide(BASE, BusyError(asked), 1, 0) == waited


@pytest.mark.parametrize("asked", [math.inf, 10**400], ids=["inf", "beyond a float"])
def test_endless_retry_after(asked: float) -> None:
    """A retry-after beyond all bounds is too long; without a bound it is a very long wait, and no overflow."""
    assert decide(BASE, BusyError(asked), 1, 0) is Reason.RETRY_AFTER_TOO_LONG
    unbounded = decide(BASE.replace(max_retry_after=None), BusyError(asked), 1, 0)
    assert isinstance(unbounded, float)
    assert 1e300 < unbounded < math.inf


@pytest.mark.parametrize(
    ("retries", "attempts", "retried"), [(3, 3, True), (3, 4, False), (0, 1, False), (None, 10**9, True)]
)
def test_max_retries(retries: int | None, attempts: int, retried: bool) -> None:  # noqa: FBT001
    """With 3 retries, the fourth failed attempt is the last; None means no limit."""
    decision = decide(BASE.replace(max_retries=retries), OSError(), attempts, 0)
    assert decision == (RETRY if retried else Reason.EXHAUSTED)


@pytest.mark.parametrize(
    ("elapsed", "decision"),
    [(0.0, 2.0), (2.9, 2.0), (3.0, Reason.DEADLINE), (3.1, Reason.DEADLINE), (9.0, Reason.DEADLINE)],
)
def test_deadline(elapsed: float, decision: float | Reason) -> None:
    """No wait begins that would end at the deadline or after it."""
    assert decide(BASE.replace(deadline=5, backoff=[2]), OSError(), 1, elapsed) == decision


def test_a_retry_after_that_cannot_be_read_asks_for_nothing() -> None:
    """A property that fails does not take the place of the error that is being classified."""

    class OddError(ConnectionError):
        @property
        def retry_after(self) -> float:
            raise KeyError

    assert decide(Policy(retry_on=ConnectionError, backoff=[1]), OddError(), 1, 0.0) == 1.0


def test_a_cause_that_is_false_is_still_a_cause() -> None:
    """GiveUp stands for its cause, also for one whose length is 0."""

    class EmptyError(ConnectionError):
        def __len__(self) -> int:
            return 0

    empty = EmptyError()
    give_up = GiveUp()
    give_up.__cause__ = empty
    assert unwrap(give_up) is empty


@pytest.mark.parametrize(
    ("error", "classification"),
    [
        (OSError(), "Transient(None)"),
        (AttemptTimeout(1), "Transient(None)"),
        (BusyError(0), "Transient(0.0)"),
        (RetryAfter(0), "Transient(0.0)"),
        (group(OSError(), BusyError(0)), "Transient(0.0)"),
        (group(OSError(), OSError()), "Transient(None)"),
        (PermissionError(), "Irrecoverable(Reason.IRRECOVERABLE)"),
        (DeadlineExceeded(1), "Irrecoverable(Reason.DEADLINE)"),
        (ValueError(), "Unlisted()"),
    ],
    ids=itertools.count(),
)
def test_classes_of_errors(error: Exception, classification: str) -> None:
    """An error is transient, irrecoverable or not listed; a server that asks for 0 s has asked."""
    assert repr(classify(STRICT, error)) == classification


@pytest.mark.parametrize(
    ("classification", "decision"),
    [
        (Transient(None), "2.0"),
        (Transient(0.0), "2.0"),
        (Transient(3.0), "5.0"),
        (Transient(61.0), "Stop(Reason.RETRY_AFTER_TOO_LONG)"),
        (Irrecoverable(Reason.DEADLINE), "Stop(Reason.DEADLINE)"),
        (Unlisted(), "PassThrough()"),
    ],
    ids=repr,
)
def test_decisions(classification: Transient | Irrecoverable | Unlisted, decision: str) -> None:
    """A call is retried after a delay, gives up for a reason, or passes its error through."""
    decided = decide_on(BASE.replace(backoff=[2]), OSError(), classification, 1, 0)
    assert repr(decided) == decision
    assert isinstance(decided, (float, Stop, PassThrough))


def test_giving_up_keeps_the_reason_of_the_classification() -> None:
    """An irrecoverable classification has a reason, and the decision has the same one."""
    for reason in Reason:
        decision = decide_on(BASE, OSError(), Irrecoverable(reason), 1, 0)
        assert isinstance(decision, Stop)
        assert decision.reason is reason


def test_an_ordinary_error_is_classified_without_a_new_object() -> None:
    """All errors of a class that ask for no wait share their classification."""
    assert classify(STRICT, OSError()) is classify(STRICT, ConnectionError())
