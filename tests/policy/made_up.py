"""Generated policies, errors and numbers, for properties that hold for all of them."""

import functools
import itertools
import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from aiosupervise import AttemptTimeout, Backoff, DeadlineExceeded, GiveUp, Policy, Reason, RetryAfter

from .deciding import decide

CASES: Counter[str] = Counter()
LONGEST = sys.float_info.max
Property: TypeAlias = Callable[..., None]


def proved(*args: "st.SearchStrategy[Any]") -> Callable[[Property], Property]:
    """Check a property on generated cases, and count the cases for which it held."""

    def decorate(test: Property) -> Property:
        @given(*args)
        @functools.wraps(test)
        def counted(**case: object) -> None:
            test(**case)
            CASES[test.__name__] += 1

        return counted

    return decorate


# Numbers, and values that are not numbers.

finite = st.floats(0, LONGEST)
short = st.floats(0, 5)
short_deadlines = st.floats(0, 30, exclude_min=True)
half = st.floats(0, LONGEST / 2)  # the sum of two of them is finite
no_wait = st.sampled_from([None, True, False, "5", math.nan, -math.inf, -4, -(10**400), b"", 1j, Decimal(3), object()])
edges = [0, -0.0, 1, 1.0, 5e-324, sys.float_info.min, LONGEST, int(LONGEST), int(LONGEST) + 1, 10**400, -(10**400)]
anything = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from(edges),
    no_wait,
    st.sampled_from([Fraction(1, 3), [], [1], (), {}, int, object, math.inf]),
    st.text(),
    st.binary(),
    st.decimals(),
    st.complex_numbers(),
)
retry_numbers = st.one_of(st.integers(0, 50), st.integers(0, 10**6), st.sampled_from([2**63, 10**400, 10**5000]))

# Errors with a known classification under STRICT.


class BusyError(OSError):
    """An error with which a server asks for a wait."""

    def __init__(self, retry_after: object) -> None:
        self.retry_after = retry_after


class ForbiddenError(PermissionError):
    """Irrecoverable, although it asks for a wait."""

    retry_after = 5


class UnknownError(ValueError):
    """Not listed, although it asks for a wait."""

    retry_after = 5


class PoolError(ExceptionGroup[Exception]):
    """A group class of the user's own; the retry-after of its leaves counts, not its own attribute."""

    retry_after = 1e9


class Leaf(NamedTuple):
    """An error and its classification under STRICT: the seconds asked for, a reason to give up, or None."""

    error: Exception
    classified: float | Reason | None


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    """Make a group."""
    return ExceptionGroup("several", errors)


def pool(*errors: Exception) -> PoolError:
    """Make a group of the user's own class."""
    return PoolError("several", errors)


def linked(error: Exception, cause: BaseException | None, context: BaseException | None = None) -> Exception:
    """Give an error a cause and a context, as `raise ... from` in an `except` block does."""
    error.__context__ = context
    error.__cause__ = cause
    return error


STRICT = Policy(retry_on=OSError, irrecoverable=PermissionError, max_retries=None, backoff=[0], max_retry_after=None)
OF_OSERROR: list[Any] = [OSError, (OSError,), (ConnectionError, OSError), lambda error: isinstance(error, OSError)]
OF_PERMISSION: list[Any] = [PermissionError, (PermissionError,), lambda error: isinstance(error, PermissionError)]
HARMLESS: list[Callable[[], BaseException]] = [
    OSError,
    ValueError,
    KeyboardInterrupt,
    lambda: RetryAfter(7),
    lambda: BusyError(9),
    lambda: group(OSError(), group(ValueError())),
]
BAD: list[Callable[[], Exception]] = [
    PermissionError,
    ForbiddenError,
    lambda: group(OSError(), group(PermissionError())),
    lambda: linked(RetryAfter(1), PermissionError()),
    lambda: linked(RetryAfter(1), None, ForbiddenError()),
]
harmless = st.sampled_from([lambda: None, *HARMLESS]).map(lambda make: make())
bad = st.sampled_from(BAD).map(lambda make: make())
others = st.sampled_from([lambda: None, *HARMLESS, *BAD, GiveUp]).map(lambda make: make())

transient = st.one_of(
    st.builds(
        lambda kind, *links: Leaf(linked(kind(), *links), 0.0),
        st.sampled_from([OSError, ConnectionError, TimeoutError]),
        others,
        others,
    ),
    half.map(lambda asked: Leaf(BusyError(asked), asked)),
    no_wait.map(lambda asked: Leaf(BusyError(asked), 0.0)),
    st.builds(lambda asked, *links: Leaf(linked(RetryAfter(asked), *links), asked), half, harmless, harmless),
    st.builds(lambda: Leaf(AttemptTimeout(1), 0.0)),
)
unlisted = st.builds(
    lambda kind, *links: Leaf(linked(kind(), *links), None),
    st.sampled_from([ValueError, KeyError, StopIteration, UnknownError]),
    others,
    others,
)
irrecoverable = st.one_of(
    st.builds(
        lambda kind, *links: Leaf(linked(kind(), *links), Reason.IRRECOVERABLE),
        st.sampled_from([PermissionError, ForbiddenError, GiveUp]),
        others,
        others,
    ),
    st.builds(lambda *links: Leaf(linked(RetryAfter(3), *links), Reason.IRRECOVERABLE), bad, others),
    st.builds(lambda context: Leaf(linked(RetryAfter(3), None, context), Reason.IRRECOVERABLE), bad),
)
transient_lists = st.lists(transient, min_size=1, max_size=5)
any_leaf = st.one_of(transient, transient, transient, unlisted, irrecoverable)
classified_leaves = st.lists(any_leaf, min_size=1, max_size=5)


@st.composite
def regrouped(draw: st.DrawFn, given_leaves: "st.SearchStrategy[list[Leaf]]") -> tuple[Exception, list[Leaf]]:
    """Put leaves into groups of any shape, up to hundreds deep; a lone leaf may stay by itself."""
    found = draw(given_leaves)
    return shaped(draw, [leaf.error for leaf in found]), found


def shaped(draw: st.DrawFn, errors: list[Exception]) -> Exception:
    """Group neighbours, and groups of them, at random."""
    nodes = list(errors)
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(nodes) - 1))
        end = draw(st.integers(start + 1, len(nodes)))
        make = draw(st.sampled_from([group, pool]))
        nodes[start:end] = [make(*nodes[start:end])]
    error = nodes[0] if len(nodes) == 1 else group(*nodes)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 2, 300]))):
        error = group(error)
    return error


@st.composite
def tangles(draw: st.DrawFn) -> list[Exception]:
    """Errors that are causes and contexts of each other, cycles included."""
    kinds: list[Callable[[], Exception]] = [GiveUp, lambda: RetryAfter(2), OSError, PermissionError, ValueError]
    errors = [draw(st.sampled_from(kinds))() for _ in range(draw(st.integers(1, 6)))]
    link = st.sampled_from([None, KeyboardInterrupt(), *errors])
    return [linked(error, draw(link), draw(link)) for error in errors]


# Policies, and the attempts and times at which they decide.


class Endless:
    """An endless schedule that can be iterated anew."""

    def __init__(self, first: object) -> None:
        self.first = first

    def __iter__(self) -> Iterator[object]:
        while True:
            yield self.first


def callable_backoff(answer: object) -> Callable[[int, Exception], object]:
    """A user's backoff function that always returns the same value."""
    return lambda _, __: answer


backoffs = st.one_of(
    st.builds(Backoff, finite, st.floats(1, LONGEST), half, st.sampled_from(["full", "none"])),
    st.lists(half, min_size=1, max_size=4),
    half.map(callable_backoff),
)
schedules = st.one_of(
    st.lists(anything, max_size=3),
    st.lists(anything, max_size=3).map(tuple),
    st.lists(anything, max_size=3).map(deque),
    anything.map(Endless),
    anything.map(callable_backoff),
    anything,
)
limits = st.one_of(st.none(), short_deadlines, st.floats(1e-9, 1e9), st.floats(0, LONGEST, exclude_min=True))
counts_of_retries = st.none() | st.integers(0, 20)
attempts = st.integers(1, 30) | st.integers(1, 10**6)
moments = st.floats(0, 100) | half
policies = st.builds(
    Policy,
    retry_on=st.sampled_from([*OF_OSERROR, lambda _: True, lambda _: 1.5, Exception]),
    irrecoverable=st.sampled_from(OF_PERMISSION),
    max_retries=counts_of_retries,
    backoff=backoffs,
    deadline=limits,
    max_retry_after=limits,
)
strict_policies = st.builds(
    STRICT.replace, retry_on=st.sampled_from(OF_OSERROR), irrecoverable=st.sampled_from(OF_PERMISSION)
)


# Whole calls


class Call(NamedTuple):
    """The end of a call: its attempts, its seconds, and the reason to give up; None if it did not give up."""

    attempts: int
    elapsed: float
    ended: Reason | None
    passed: bool = False


def call(policy: Policy, failures: list[tuple[float, Exception]], most: int) -> Call:
    """Obey decisions until one ends the call; each failure takes its seconds, and the failures repeat in a cycle."""
    elapsed = 0.0
    for number, (seconds, raised) in zip(range(1, most + 1), itertools.cycle(failures), strict=False):
        elapsed, error = elapsed + seconds, raised
        if policy.deadline is not None and elapsed >= policy.deadline:  # it interrupts the attempt
            elapsed, error = policy.deadline, DeadlineExceeded(policy.deadline)
        decision = decide(policy, error, number, elapsed)
        if not isinstance(decision, float):
            return Call(number, elapsed, decision, passed=decision is None)
        elapsed += decision
        assert policy.deadline is None or elapsed <= policy.deadline, "slept past the deadline"
    return Call(most, elapsed, None)


durations = st.floats(0, 10) | half
failing = st.lists(st.tuples(durations, regrouped(classified_leaves).map(lambda case: case[0])), min_size=1, max_size=4)
always_transient = st.lists(
    st.tuples(durations, regrouped(transient_lists).map(lambda case: case[0])), min_size=1, max_size=3
)
waiting_shortly = st.one_of(st.builds(OSError), short.map(RetryAfter), short.map(BusyError))
failing_shortly = st.lists(
    st.tuples(
        st.floats(0.1, 5), waiting_shortly | st.lists(waiting_shortly, min_size=1).map(lambda some: group(*some))
    ),
    min_size=1,
    max_size=4,
)
