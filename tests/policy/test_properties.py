"""Properties of every decision, for any policy, error and time: checked on thousands of generated cases."""

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
    classified_leaves,
    failing,
    failing_shortly,
    finite,
    group,
    half,
    irrecoverable,
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

pytestmark = pytest.mark.usefixtures("untraced")

T = TypeVar("T")


@pytest.fixture(scope="module", autouse=True)
def _counted(counts: "Counter[str]", *, thorough: bool) -> Iterator[None]:
    """Record how many cases held; a thorough run must have checked each property often enough."""
    yield
    fewest = min(CASES.values(), default=0)
    counts["properties"] = len(CASES)
    counts["properties: cases"] = CASES.total()
    counts["properties: fewest cases of one"] = fewest
    assert fewest >= 10_000 or not thorough, CASES


def result_of(func: Callable[[], T]) -> T | str:
    """Return the function's result, or the message of the error with which it refuses its input."""
    try:
        return func()
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
    """Any arguments raise a TypeError or ValueError that names the argument, or give finite delays for every n."""
    backoff = result_of(lambda: Backoff(base, factor, cap, jitter))
    if isinstance(backoff, str):
        assert backoff.partition(" ")[0] in ("base", "factor", "cap", "jitter")
    else:
        assert 0 <= backoff(n) <= cap
        assert math.isfinite(backoff(n))


@proved(schedules, st.integers(1, 50))
def test_a_schedule_of_anything_is_refused_or_finite(schedule: Any, attempt: int) -> None:
    """Iterables and functions raise a TypeError or ValueError that names the backoff, or give finite delays."""
    decision = result_of(lambda: decide(STRICT.replace(backoff=schedule), OSError(), attempt, 0))
    if isinstance(decision, str):
        assert "backoff" in decision
    else:
        assert isinstance(decision, float)
        assert 0 <= decision < math.inf


# Retry-after


@proved(anything)
def test_an_attribute_of_anything_is_a_finite_wait(asked: object) -> None:
    """Any value of `retry_after` leads to a finite wait, which is at least as long as the number in it."""
    decision = decide(STRICT, BusyError(asked), 1, 0)
    assert isinstance(decision, float)
    assert 0 <= decision < math.inf
    if isinstance(asked, (int, float)) and not isinstance(asked, bool) and asked > 0:
        assert decision >= float(min(asked, LONGEST))


@proved(anything)
def test_a_predicate_that_returns_anything_is_refused_or_obeyed(answer: Any) -> None:
    """A predicate returns a bool, None, or seconds that are waited in full; any other value raises an error."""
    decision = result_of(lambda: decide(STRICT.replace(retry_on=lambda _: answer), OSError(), 1, 0))
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
    """The call waits at least as long as the longest retry-after anywhere in a group, or it gives up."""
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
    """A number that the predicate returns for one leaf is waited in full, whatever the other leaves ask for."""
    policy = STRICT.replace(retry_on=lambda error: asked if type(error) is KeyError else True, backoff=backoff)
    decision = decide(policy, group(case[0], group(KeyError())), 1, 0)
    assert isinstance(decision, float)
    assert asked <= decision < math.inf


# The limits, of one decision and of a whole call


@proved(policies, regrouped(classified_leaves), attempts, moments)
def test_every_decision_can_be_obeyed(
    policy: Policy, case: tuple[Exception, list[Leaf]], attempts: int, elapsed: float
) -> None:
    """For any policy and error, the decision is a finite wait within the limits, a reason, or None."""
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
    """If all errors are transient, only `max_retries` ends the call, after exactly one attempt more."""
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
    """A wait, a retry-after included, ends at the deadline at the latest; else the call gives up."""
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
    """In a whole call, no wait ends after the deadline, and at the deadline the call is over."""
    ended = call(STRICT.replace(deadline=deadline, backoff=backoff), failures, most=40)
    assert ended.elapsed <= deadline
    assert ended.ended is Reason.DEADLINE or ended.attempts == 40


# Groups and their leaves


def worst_of(found: list[Leaf]) -> float | Reason | None:
    """Return the decision for these leaves: the rule in its shortest form."""
    classified = [leaf.classified for leaf in found]
    if Reason.IRRECOVERABLE in classified:
        return Reason.IRRECOVERABLE
    return None if None in classified else max(classified)  # type: ignore[type-var]  # floats are left


@proved(strict_policies, regrouped(classified_leaves))
def test_a_group_is_classified_by_its_leaves(policy: Policy, case: tuple[Exception, list[Leaf]]) -> None:
    """One irrecoverable leaf decides, at any depth; else one that is not listed; else the longest wait."""
    error, found = case
    assert decide(policy, error, 1, 0) == worst_of(found)


@st.composite
def two_shapes(draw: st.DrawFn) -> tuple[Exception, Exception]:
    """The same leaves in two groups of different shapes and orders."""
    found = draw(classified_leaves)
    return draw(regrouped(st.just(found)))[0], draw(regrouped(st.permutations(found)))[0]


@proved(policies, st.lists(half, min_size=1, max_size=4), two_shapes(), attempts, moments)
def test_the_shape_of_a_group_makes_no_difference(
    policy: Policy, backoff: list[float], errors: tuple[Exception, Exception], attempts: int, elapsed: float
) -> None:
    """The same leaves in other groups and another order give the same decision; so does a lone leaf in no group."""
    fixed = policy.replace(backoff=backoff)
    one, other = errors
    assert decide(fixed, one, attempts, elapsed) == decide(fixed, other, attempts, elapsed)


@proved(regrouped(classified_leaves))
def test_leaves_are_all_the_errors_in_order_and_no_groups(case: tuple[Exception, list[Leaf]]) -> None:
    """The leaves of a group are all the errors in it, in order; an error that is not a group is its own leaf."""
    error, found = case
    assert [id(one) for one in leaves(error)] == [id(leaf.error) for leaf in found]


@st.composite
def one_irrecoverable(draw: st.DrawFn) -> Exception:
    """A group of any shape, one of whose leaves is irrecoverable."""
    found = [*draw(st.lists(any_leaf, max_size=4)), draw(irrecoverable)]
    return draw(regrouped(st.permutations(found)))[0]


@proved(policies, one_irrecoverable(), attempts, moments)
def test_irrecoverable_always_wins(policy: Policy, error: Exception, attempts: int, elapsed: float) -> None:
    """One irrecoverable leaf or GiveUp at any depth decides, whatever is listed, asked for or within the limits."""
    assert decide(policy, error, attempts, elapsed) is Reason.IRRECOVERABLE


def stood_for(error: Exception) -> Exception:
    """Follow causes, else contexts, to the first error that overrules nothing; in a cycle, to its last new one."""
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
def test_tangled_causes_and_contexts_are_classified(errors: list[Exception]) -> None:
    """If errors stand for each other, cycles included, deciding terminates, and classifies the error behind each."""
    for error in errors:
        assert unwrap(error) is stood_for(error)
        bad = isinstance(stood_for(error), PermissionError) or isinstance(error, GiveUp)
        expected = 2.0 if isinstance(error, RetryAfter) else 0.0 if isinstance(error, OSError) else None
        assert decide(STRICT, error, 1, 0) == (Reason.IRRECOVERABLE if bad else expected)


# Cases that did not hold once


def test_irrecoverable_wins_over_a_deadline_in_the_same_group() -> None:
    """A group of a DeadlineExceeded and an irrecoverable error is irrecoverable, in either order."""
    errors = [DeadlineExceeded(1), PermissionError()]
    assert {decide(STRICT, group(*order), 1, 0) for order in (errors, errors[::-1])} == {Reason.IRRECOVERABLE}


def test_irrecoverable_wins_behind_a_retry_after_in_a_group_behind_another() -> None:
    """A RetryAfter is irrecoverable if its cause is a group with a RetryAfter from an irrecoverable error."""
    behind = linked(RetryAfter(5), PermissionError())
    assert decide(STRICT, linked(RetryAfter(3), group(OSError(), behind)), 1, 0) is Reason.IRRECOVERABLE


def test_the_longest_retry_after_and_the_longest_backoff_are_a_finite_wait() -> None:
    """A retry-after and a delay that are finite each make a wait that is finite."""
    decision = decide(STRICT.replace(backoff=[LONGEST]), BusyError(10**400), 1, 0)
    assert isinstance(decision, float)
    assert math.isfinite(decision)


def test_an_int_that_is_too_long_to_print_is_refused_by_name() -> None:
    """Its error names the argument, as any other error does."""
    with pytest.raises(ValueError, match="base must be"):
        Backoff(10**5000)
