"""What holds of every decision, whatever the policy, the error and the moment: tried on thousands of made-up cases."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st

from aiosupervise import Backoff, DeadlineExceeded, GiveUp, Policy, Reason, RetryAfter
from aiosupervise._policy.backoff import BackoffLike
from aiosupervise._policy.errors import unwrap
from aiosupervise._policy.raw import leaves

from .deciding import decide
from .made_up import (
    CASES,
    LONGEST,
    STRICT,
    BusyError,
    Leaf,
    always_transient,
    any_leaf,
    anything,
    attempts,
    backoffs,
    call,
    failing,
    failing_shortly,
    finite,
    group,
    half,
    irrecoverable,
    judged_leaves,
    limits,
    linked,
    moments,
    policies,
    proved,
    regrouped,
    retry_numbers,
    schedules,
    short,
    short_deadlines,
    strict_policies,
    tangles,
    transient_lists,
)

T = TypeVar("T")


@pytest.fixture(scope="module", autouse=True)
def _counted(counts: "Counter[str]", *, thorough: bool) -> Iterator[None]:
    """Print how many cases held; a thorough run must have tried each property often enough."""
    yield
    fewest = min(CASES.values(), default=0)
    counts["properties"] = len(CASES)
    counts["properties: cases"] = CASES.total()
    counts["properties: fewest cases of one"] = fewest
    assert fewest >= 10_000 or not thorough, CASES


def answer_of(ask: Callable[[], T]) -> T | str:
    """Ask, and return what is said where the question is refused."""
    try:
        return ask()
    except (TypeError, ValueError) as error:
        return str(error)


# Backoff


@proved(finite, st.floats(1, LONGEST), finite, st.sampled_from(["full", "none"]), retry_numbers)
def test_a_delay_is_between_zero_and_the_cap(base: float, factor: float, cap: float, jitter: Any, n: int) -> None:
    """Any valid numbers and any n, also beyond a float, give a finite delay from 0 to the cap."""
    delay = Backoff(base, factor, cap, jitter)(n)
    assert math.isfinite(delay)
    assert 0 <= delay <= cap


@proved(finite, st.floats(1, LONGEST), finite, retry_numbers)
def test_the_ladder_never_goes_down(base: float, factor: float, cap: float, n: int) -> None:
    """Each step is at least as long as the one before."""
    backoff = Backoff(base, factor, cap, "none")
    assert backoff(n) <= backoff(n + 1)


@proved(finite | anything, st.floats(1, 9) | anything, finite | anything, st.just("full") | anything, retry_numbers)
def test_a_backoff_of_anything_is_refused_or_finite(base: Any, factor: Any, cap: Any, jitter: Any, n: int) -> None:
    """Whatever it is made of: a TypeError or ValueError that names the argument, or finite delays for every n."""
    backoff = answer_of(lambda: Backoff(base, factor, cap, jitter))
    if isinstance(backoff, str):
        assert backoff.partition(" ")[0] in ("base", "factor", "cap", "jitter")
    else:
        assert 0 <= backoff(n) <= cap
        assert math.isfinite(backoff(n))


@proved(schedules, st.integers(1, 50))
def test_a_schedule_of_anything_is_refused_or_finite(schedule: Any, attempt: int) -> None:
    """Lists, other iterables and functions of anything: a TypeError or ValueError that says so, or finite delays."""
    decision = answer_of(lambda: decide(STRICT.replace(backoff=schedule), OSError(), attempt, 0))
    if isinstance(decision, str):
        assert "backoff" in decision
    else:
        assert isinstance(decision, float)
        assert 0 <= decision < math.inf


# What a server asks for


@proved(anything)
def test_an_attribute_of_anything_is_a_finite_wait(asked: object) -> None:
    """Whatever an error has as its `retry_after`, the answer is a wait, and not shorter than a number in it."""
    decision = decide(STRICT, BusyError(asked), 1, 0)
    assert isinstance(decision, float)
    assert 0 <= decision < math.inf
    if isinstance(asked, (int, float)) and not isinstance(asked, bool) and asked > 0:
        assert decision >= float(min(asked, LONGEST))


@proved(anything)
def test_a_predicate_that_answers_anything_is_refused_or_obeyed(answer: Any) -> None:
    """A predicate's answer is a yes, a no, or seconds that are waited in full; all else is an error that says so."""
    decision = answer_of(lambda: decide(STRICT.replace(retry_on=lambda _: answer), OSError(), 1, 0))
    if isinstance(decision, str):
        assert "the return value of retry_on" in decision
        assert not isinstance(answer, (int, float))
    elif answer is None or answer is False:
        assert decision is None
    else:
        assert decision == (0.0 if answer is True or not answer >= 0 else float(min(answer, LONGEST)))


@proved(policies, regrouped(transient_lists), attempts, moments)
def test_a_servers_delay_is_never_shortened(
    policy: Policy, case: tuple[Exception, list[Leaf]], attempts: int, elapsed: float
) -> None:
    """The call waits at least as long as the longest wait that is asked for, anywhere in a group, or it gives up."""
    error, found = case
    listed = policy.replace(retry_on=OSError)
    decision = decide(listed, error, attempts, elapsed)
    if isinstance(decision, float):
        assert decision >= max(leaf.classified for leaf in found if isinstance(leaf.classified, float))
    else:
        assert decision in (Reason.EXHAUSTED, Reason.RETRY_AFTER_TOO_LONG, Reason.DEADLINE)


@proved(half, st.lists(half, min_size=1, max_size=4), regrouped(transient_lists))
def test_a_predicates_delay_is_never_shortened(
    asked: float, backoff: list[float], case: tuple[Exception, list[Leaf]]
) -> None:
    """A number that the predicate answers for one leaf is waited in full, whatever the others ask for."""
    policy = STRICT.replace(retry_on=lambda error: asked if type(error) is KeyError else True, backoff=backoff)
    decision = decide(policy, group(case[0], group(KeyError())), 1, 0)
    assert isinstance(decision, float)
    assert asked <= decision < math.inf


# The limits, of one decision and of a whole call


@proved(policies, regrouped(judged_leaves), attempts, moments)
def test_every_decision_can_be_obeyed(
    policy: Policy, case: tuple[Exception, list[Leaf]], attempts: int, elapsed: float
) -> None:
    """Whatever the policy and the error, the answer is a finite wait within the limits, a reason, or None."""
    decision = decide(policy, case[0], attempts, elapsed)
    if isinstance(decision, float):
        assert 0 <= decision < math.inf
        assert policy.max_retries is None or attempts <= policy.max_retries
        assert policy.deadline is None or elapsed + decision <= policy.deadline
    else:
        assert decision is None or isinstance(decision, Reason)


@proved(st.integers(0, 25), policies, always_transient)
def test_a_call_makes_as_many_attempts_as_its_retries_and_one(
    retries: int, policy: Policy, failures: list[tuple[float, Exception]]
) -> None:
    """Of errors that are all transient, `max_retries` alone ends the call, after exactly one attempt more."""
    free = policy.replace(retry_on=OSError, max_retries=retries, deadline=None, max_retry_after=None, backoff=[0.5])
    assert call(free, failures, most=30)[::2] == (retries + 1, Reason.EXHAUSTED)


@proved(policies, failing)
def test_no_call_makes_more_attempts_than_its_retries_and_one(
    policy: Policy, failures: list[tuple[float, Exception]]
) -> None:
    """Whatever else ends a call, it never makes more than `max_retries` + 1 attempts."""
    ended = call(policy, failures, most=30)
    assert policy.max_retries is None or ended.attempts <= policy.max_retries + 1
    assert ended.ended or ended.passed or policy.max_retries is None


@proved(limits, limits, short, short, st.sampled_from(["wait", "asked"]))
def test_no_wait_begins_that_would_end_after_the_deadline(
    deadline: float | None, longest: float | None, elapsed: float, wait: float, kind: str
) -> None:
    """A wait ends at the deadline at the latest, also one that a server asks for; else the call gives up."""
    policy = STRICT.replace(deadline=deadline, max_retry_after=longest, backoff=[wait if kind == "wait" else 0])
    decision = decide(policy, BusyError(wait if kind == "asked" else 0), 1, elapsed)
    if isinstance(decision, float):
        assert decision == wait
        assert deadline is None or elapsed + wait <= deadline
    elif decision is Reason.DEADLINE:
        assert deadline is not None
        assert elapsed + wait >= deadline
    else:
        assert decision is Reason.RETRY_AFTER_TOO_LONG
        assert longest is not None
        assert wait > longest


@proved(short_deadlines, st.lists(short, min_size=1, max_size=4) | backoffs, failing_shortly)
def test_no_call_sleeps_past_its_deadline(
    deadline: float, backoff: BackoffLike, failures: list[tuple[float, Exception]]
) -> None:
    """Of a whole call, no wait ends after the deadline, and at the deadline the call is over."""
    ended = call(STRICT.replace(deadline=deadline, backoff=backoff), failures, most=40)
    assert ended.elapsed <= deadline
    assert ended.ended is Reason.DEADLINE or ended.attempts == 40


# Groups and their leaves


def worst_of(found: list[Leaf]) -> float | Reason | None:
    """Return what follows from these leaves: the rule in its shortest form."""
    classified = [leaf.classified for leaf in found]
    if Reason.IRRECOVERABLE in classified:
        return Reason.IRRECOVERABLE
    return None if None in classified else max(classified)  # type: ignore[type-var]  # floats are left


@proved(strict_policies, regrouped(judged_leaves))
def test_a_group_is_judged_by_its_leaves(policy: Policy, case: tuple[Exception, list[Leaf]]) -> None:
    """One irrecoverable leaf decides, at any depth; else one that is not listed; else the longest wait."""
    error, found = case
    assert decide(policy, error, 1, 0) == worst_of(found)


@st.composite
def two_shapes(draw: st.DrawFn) -> tuple[Exception, Exception]:
    """The same leaves in two groups of different shapes and orders."""
    found = draw(judged_leaves)
    return draw(regrouped(st.just(found)))[0], draw(regrouped(st.permutations(found)))[0]


@proved(policies, st.lists(half, min_size=1, max_size=4), two_shapes(), attempts, moments)
def test_the_shape_of_a_group_plays_no_part(
    policy: Policy, backoff: list[float], errors: tuple[Exception, Exception], attempts: int, elapsed: float
) -> None:
    """The same leaves in other groups, in another order, give the same decision; so does a lone leaf in none."""
    fixed = policy.replace(backoff=backoff)
    one, other = errors
    assert decide(fixed, one, attempts, elapsed) == decide(fixed, other, attempts, elapsed)


@proved(regrouped(judged_leaves))
def test_leaves_are_all_the_errors_in_order_and_no_groups(case: tuple[Exception, list[Leaf]]) -> None:
    """The leaves of a group are all the errors in it, in order; an error that is no group is its own leaf."""
    error, found = case
    assert [id(one) for one in leaves(error)] == [id(leaf.error) for leaf in found]


@st.composite
def one_irrecoverable(draw: st.DrawFn) -> Exception:
    """A group of any shape, one of whose leaves is irrecoverable."""
    found = [*draw(st.lists(any_leaf, max_size=4)), draw(irrecoverable)]
    return draw(regrouped(st.permutations(found)))[0]


@proved(policies, one_irrecoverable(), attempts, moments)
def test_irrecoverable_always_wins(policy: Policy, error: Exception, attempts: int, elapsed: float) -> None:
    """One irrecoverable leaf, or one GiveUp, at any depth: whatever is listed, asked for, and left of the limits."""
    assert decide(policy, error, attempts, elapsed) is Reason.IRRECOVERABLE


def stood_for(error: Exception) -> Exception:
    """Follow causes, else contexts, to the first error that overrules nothing; in a circle, to its last new one."""
    passed: list[Exception] = []
    found = error
    while isinstance(found, (GiveUp, RetryAfter)):
        passed.append(found)
        following = found.__cause__ or found.__context__
        if not isinstance(following, Exception) or following in passed:
            break
        found = following
    return found


@proved(tangles())
def test_a_tangle_of_causes_and_contexts_is_judged(errors: list[Exception]) -> None:
    """Errors that stand for each other, in circles too: deciding ends, and judges what each stands for."""
    for error in errors:
        assert unwrap(error) is stood_for(error)
        bad = isinstance(stood_for(error), PermissionError) or isinstance(error, GiveUp)
        expected = 2.0 if isinstance(error, RetryAfter) else 0.0 if isinstance(error, OSError) else None
        assert decide(STRICT, error, 1, 0) == (Reason.IRRECOVERABLE if bad else expected)


# Known not to hold


def test_irrecoverable_wins_over_a_deadline_in_the_same_group() -> None:
    """A group of a DeadlineExceeded and an irrecoverable error is irrecoverable, in either order."""
    errors = [DeadlineExceeded(1), PermissionError()]
    assert {decide(STRICT, group(*order), 1, 0) for order in (errors, errors[::-1])} == {Reason.IRRECOVERABLE}


def test_irrecoverable_wins_behind_a_retry_after_in_the_group_that_one_stands_for() -> None:
    """A RetryAfter for a group, in which a RetryAfter stands for an irrecoverable error, is irrecoverable."""
    behind = linked(RetryAfter(5), PermissionError())
    assert decide(STRICT, linked(RetryAfter(3), group(OSError(), behind)), 1, 0) is Reason.IRRECOVERABLE


def test_the_longest_retry_after_and_the_longest_backoff_are_a_finite_wait() -> None:
    """A retry-after and a delay that are finite each make a wait that is finite."""
    decision = decide(STRICT.replace(backoff=[LONGEST]), BusyError(10**400), 1, 0)
    assert isinstance(decision, float)
    assert math.isfinite(decision)


def test_an_endless_int_is_refused_by_name() -> None:
    """The error for an int too long to be printed names the argument as any other does."""
    with pytest.raises(ValueError, match="base must be"):
        Backoff(10**5000)
