"""Bad input: an error at decoration that names the parameter, the rule and the repair."""

import asyncio
import contextlib
import functools
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from types import CoroutineType
from typing import TypeAlias

import pytest

from aiosupervise import Backoff, Policy, RetryAfter, policy_of, supervise

from .forms import Supervise


def words(*expected: str) -> re.Pattern[str]:
    """A pattern for a message that begins with the first text and contains the others in this order."""
    return re.compile("^" + ".*".join(map(re.escape, expected)), re.DOTALL)


async def predicate(_: Exception) -> bool:
    return True


class AsyncPredicate:
    async def __call__(self, _: Exception) -> bool:
        return True


@contextlib.asynccontextmanager
async def once() -> AsyncIterator[None]:
    yield


@contextlib.contextmanager
def once_sync() -> Iterator[None]:
    yield


class OnlyEntered:
    async def __aenter__(self) -> None:
        """Enter; there is no `__aexit__`."""


NO_SUBCLASS = "must be a subclass of Exception, a tuple of them, or a plain function"
SECONDS = "must be a finite number of seconds, above 0, or None for no limit"
SECONDS_OR_0 = "must be a finite number of seconds, 0 or more"
BACKOFF = "must be a Backoff(...), a function (n, error) -> seconds, or a list of seconds"

Case: TypeAlias = tuple[dict[str, object], type[Exception], tuple[str, ...]]


def case(option: str, value: object, kind: type[Exception], *expected: str) -> Case:
    """One option with an invalid value."""
    return {option: value}, kind, expected


BAD: list[Case] = [
    ({"retry_on": ()}, ValueError, ("retry_on is empty", "list the transient errors")),
    *(
        case(name, value, TypeError, name, NO_SUBCLASS, *repair)
        for name in ("retry_on", "irrecoverable")
        for value, repair in (
            (None, ("got None",)),
            ("ConnectionError", ("got 'ConnectionError'",)),
            (503, ("got 503",)),
            ([ConnectionError], ("got a value of type list",)),
            (ConnectionError("an instance"), ("got a value of type ConnectionError",)),
            (int, ("got int: it is not an exception, so remove it",)),
            ((ConnectionError, int), ("got int", "remove it")),
            ((ConnectionError, 503), ("the tuple contains 503",)),
            ((ConnectionError, (OSError,)), ("the tuple contains",)),
            (BaseException, ("got BaseException: cancellation and exit are never retried, so remove it",)),
            (asyncio.CancelledError, ("got CancelledError", "never retried", "remove it")),
            ((ConnectionError, asyncio.CancelledError), ("got CancelledError", "never retried")),
            (KeyboardInterrupt, ("got KeyboardInterrupt", "never retried")),
            (SystemExit, ("got SystemExit", "never retried")),
            (GeneratorExit, ("got GeneratorExit", "never retried")),
            (BaseExceptionGroup, ("got BaseExceptionGroup", "never retried")),
            (predicate, ("predicate is async", "make it a plain def")),
            (functools.partial(predicate), ("predicate is async", "make it a plain def")),
            (AsyncPredicate(), ("AsyncPredicate is async", "make it a plain def")),
        )
    ),
    *(
        case(
            "max_retries",
            value,
            kind,
            "max_retries must be an integer of at least 0, or None for no limit",
            f"got {value!r}",
        )
        for value, kind in ((-1, ValueError), (True, TypeError), (False, TypeError), (3.0, TypeError), ("3", TypeError))
    ),
    *(
        case(name, value, kind, f"{name} {SECONDS}", f"got {value!r}")
        for name in ("attempt_timeout", "deadline")
        for value, kind in (
            (0, ValueError),
            (0.0, ValueError),
            (-1, ValueError),
            (math.nan, ValueError),
            (math.inf, ValueError),
            (10**400, ValueError),
            (True, TypeError),
            ("5", TypeError),
        )
    ),
    *(
        case("max_retry_after", value, kind, f"max_retry_after {SECONDS_OR_0}, or None for no limit", f"got {value!r}")
        for value, kind in ((-1, ValueError), (math.nan, ValueError), (True, TypeError), ("60", TypeError))
    ),
    ({"backoff": iter([1, 2])}, TypeError, ("backoff", BACKOFF, "shared by all calls", "give a list or a tuple")),
    ({"backoff": (n for n in [1, 2])}, TypeError, ("backoff", BACKOFF, "shared by all calls")),
    ({"backoff": Backoff}, TypeError, ("backoff", BACKOFF, "got the class Backoff: write Backoff()")),
    ({"backoff": None}, TypeError, ("backoff", BACKOFF, "got None")),
    ({"backoff": 0.5}, TypeError, ("backoff", BACKOFF, "got 0.5")),
    ({"backoff": "12"}, TypeError, ("backoff", BACKOFF, "got '12'")),
    ({"backoff": predicate}, TypeError, ("backoff", BACKOFF, "is async", "make it a plain def")),
    ({"backoff": []}, ValueError, ("backoff must have at least one delay", "write [0] for no wait")),
    ({"backoff": range(0)}, ValueError, ("backoff must have at least one delay",)),
    ({"backoff": [1, -2]}, ValueError, (f"backoff[1] {SECONDS_OR_0}", "got -2")),
    ({"backoff": (1, math.nan)}, ValueError, (f"backoff[1] {SECONDS_OR_0}", "got nan")),
    ({"backoff": ["1"]}, TypeError, (f"backoff[0] {SECONDS_OR_0}", "got '1'")),
    ({"backoff": range(-1, 5)}, ValueError, (f"backoff[0] {SECONDS_OR_0}", "got -1")),
    *(
        case("gate", value, TypeError, "gate must be an async context manager", "many times", "asyncio.Semaphore(10)")
        for value in (5, asyncio.Semaphore, contextlib.nullcontext, OnlyEntered())
    ),
    ({"gate": predicate}, TypeError, ("gate must be", "predicate is async", "make it a plain def")),
    ({"gate": once()}, TypeError, ("gate must be", "an @asynccontextmanager", "only once")),
    ({"gate": once_sync()}, TypeError, ("gate must be", "an @contextmanager", "only once")),
    ({"name": 5}, TypeError, ("name must be a str, or None", "got 5")),
    ({"max_retrys": 5}, TypeError, ("", "max_retrys")),
]
IDS = [" ".join(f"{name}={value!r}"[:40] for name, value in options.items()) for options, _, _ in BAD]


def ids(values: list[str]) -> list[str]:
    """The same ids, made unique and free of addresses."""
    return [f"{n} {re.sub(' at 0x.*', '', value)}" for n, value in enumerate(values)]


@pytest.mark.parametrize(("options", "kind", "expected"), BAD, ids=ids(IDS))
@pytest.mark.parametrize("make", [supervise, Policy], ids=["supervise", "Policy"])
def test_bad_options(
    make: Callable[..., object], options: dict[str, object], kind: type[Exception], expected: tuple[str, ...]
) -> None:
    """`supervise` and `Policy` refuse each invalid option at once, with a message that names the repair."""
    with pytest.raises(kind, match=words(*expected)):
        make(**{"retry_on": ConnectionError, **options})


def test_bad_change() -> None:
    """`replace` checks as the constructor does."""
    with pytest.raises(ValueError, match=words("max_retries must be an integer of at least 0", "got -1")):
        Policy(retry_on=ConnectionError).replace(max_retries=-1)


@pytest.mark.parametrize(
    ("options", "kind", "expected"),
    [
        ({"base": -1}, ValueError, (f"base {SECONDS_OR_0}", "got -1")),
        ({"base": math.nan}, ValueError, (f"base {SECONDS_OR_0}", "got nan")),
        ({"base": "1"}, TypeError, (f"base {SECONDS_OR_0}", "got '1'")),
        ({"base": None}, TypeError, (f"base {SECONDS_OR_0}", "got None")),
        ({"cap": -1}, ValueError, (f"cap {SECONDS_OR_0}", "got -1")),
        ({"cap": math.inf}, ValueError, (f"cap {SECONDS_OR_0}", "got inf")),
        ({"cap": True}, TypeError, (f"cap {SECONDS_OR_0}", "got True")),
        ({"factor": 0.5}, ValueError, ("factor must be a finite number of at least 1", "got 0.5")),
        ({"factor": math.nan}, ValueError, ("factor must be a finite number of at least 1", "got nan")),
        ({"factor": math.inf}, ValueError, ("factor must be a finite number of at least 1", "got inf")),
        (
            {"factor": 10**400},
            ValueError,
            ("factor must be a finite number of at least 1", "got 1000"),
        ),
        ({"factor": True}, TypeError, ("factor must be a", "number of at least 1", "got True")),
        ({"factor": "2"}, TypeError, ("factor must be a", "number of at least 1", "got '2'")),
        ({"jitter": "half"}, ValueError, ('jitter must be "full" or "none"', "got 'half'")),
        ({"jitter": None}, ValueError, ('jitter must be "full" or "none"', "got None")),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_bad_backoff(options: dict[str, object], kind: type[Exception], expected: tuple[str, ...]) -> None:
    """Invalid arguments of a Backoff are refused when it is made."""
    make: Callable[..., Backoff] = Backoff
    with pytest.raises(kind, match=words(*expected)):
        make(**options)


def shown(value: object) -> str:
    """How an error message shows a setting."""
    return (
        repr(value) if isinstance(value, (str, int, float, type(None))) else f"a value of type {type(value).__name__}"
    )


@pytest.mark.parametrize("seconds", ["5", None, True, 1j], ids=repr)
def test_bad_retry_after(seconds: float) -> None:
    """A RetryAfter whose argument is not a number is refused where it is made."""
    with pytest.raises(TypeError, match=words("the argument of RetryAfter must be a number", f"got {shown(seconds)}")):
        RetryAfter(seconds)


# How supervise is called


def test_no_retry_on() -> None:
    """Without retry_on the error states its purpose and shows the correct code."""
    make: Callable[..., object] = supervise
    with pytest.raises(
        TypeError,
        match=words("supervise needs retry_on", "the transient errors", "@supervise(retry_on=ConnectionError)"),
    ):
        make(max_retries=3)
    with pytest.raises(TypeError, match=words("supervise needs retry_on", "@supervise(retry_on=ConnectionError)")):
        make()


def test_an_unknown_keyword() -> None:
    """The error names the keyword, and the keywords that exist."""
    make: Callable[..., object] = supervise
    with pytest.raises(
        TypeError,
        match=words("supervise has no keyword timeout; it has retry_on, irrecoverable, max_retries, ", "deadline, "),
    ):
        make(retry_on=ConnectionError, timeout=3)


@pytest.mark.parametrize("policy", [ConnectionError, (ConnectionError,), 3, None], ids=repr)
def test_something_else_than_a_policy(policy: object) -> None:
    """A positional argument must be a Policy; the error shows how to pass keywords."""
    make: Callable[..., object] = supervise
    with pytest.raises(TypeError, match=words("", "supervise", "retry_on=")):
        make(policy)


def test_the_policy_by_name() -> None:
    """A policy may be passed as `policy=`, with the same check; it is not a keyword of a Policy."""
    policy = Policy(retry_on=OSError)

    @supervise(policy=policy)
    async def fetch() -> None: ...

    assert policy_of(fetch) is policy
    make: Callable[..., object] = supervise
    with pytest.raises(TypeError, match=words("supervise takes a policy or keywords, not both", "deadline=...")):
        make(policy=policy, deadline=1)
    with pytest.raises(TypeError, match=r"supervise takes one Policy.*got 3$"):
        make(policy=3)
    with pytest.raises(TypeError, match=r"supervise takes one Policy.*got 3, 4$"):
        make(3, policy=4)


def test_policy_and_keywords() -> None:
    """A policy and keywords at once: the error shows `replace` with those keywords."""
    make: Callable[..., object] = supervise
    with pytest.raises(
        TypeError,
        match=words(
            "supervise takes a policy or keywords, not both", "supervise(policy.replace(deadline=..., name=...))"
        ),
    ):
        make(Policy(retry_on=ConnectionError), deadline=3, name="x")


async def fetch() -> None:
    return None


def test_without_parentheses() -> None:
    """`@supervise` without its parentheses: the error shows the correct line."""
    make: Callable[..., object] = supervise
    with pytest.raises(
        TypeError, match=words("@supervise needs its policy first", "@supervise(retry_on=", "above fetch")
    ):
        make(fetch)


# Objects to decorate


def generate() -> Iterator[None]:
    yield


async def agenerate() -> AsyncIterator[None]:
    yield


async def of_class(_: object) -> None:
    return None


class Thing:
    async def __call__(self) -> None:
        """Call."""


class Generating:
    def __call__(self) -> Iterator[None]:
        """Yield once."""
        yield


class GeneratingAsync:
    async def __call__(self) -> AsyncIterator[None]:
        """Yield once."""
        yield


class Client:
    """A class whose methods are supervised."""

    async def fetch(self, _: int) -> None:
        """Fetch."""

    partial = functools.partialmethod(fetch, 1)


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (Client.__dict__["partial"], ("not a partialmethod", "functools.partialmethod(fetch, ...)")),
        (generate, ("not the generator generate", "the calls that it makes", "`for attempt in policy:`")),
        (functools.partial(generate), ("not the generator generate",)),
        (generate(), ("not the generator generate",)),
        (Thing, ("not a class", "the methods of Thing")),
        (functools.partial(Thing), ("not a class", "Thing")),
        (agenerate, ("not the async generator agenerate", "the calls that it makes", "`async for attempt in policy:`")),
        (agenerate(), ("not the async generator agenerate",)),
        (Generating(), ("not the generator Generating",)),
        (GeneratingAsync(), ("not the async generator GeneratingAsync",)),
        (contextlib.contextmanager(generate), ("not the context manager generate", "the calls that it makes")),
        (contextlib.asynccontextmanager(agenerate), ("not the context manager agenerate",)),
        (classmethod(of_class), ("put @classmethod above @supervise(...)", "of_class")),
        (staticmethod(fetch), ("put @staticmethod above @supervise(...)", "fetch")),
        (property(of_class), ("put @property above @supervise(...)", "for of_class")),
        (functools.cached_property(of_class), ("put @cached_property above @supervise(...)", "for of_class")),
        (5, ("got 5",)),
        (None, ("got None",)),
    ],
    ids=lambda value: None if isinstance(value, tuple) else type(value).__name__,
)
def test_what_cannot_be_supervised(func: object, expected: tuple[str, ...]) -> None:
    """Each kind of object that is not a function is refused at decoration, by an error that shows the right code."""
    decorate: Callable[..., object] = supervise(retry_on=ConnectionError)
    with pytest.raises(TypeError, match=words("supervise takes a function", *expected)):
        decorate(func)


def test_coroutine_object() -> None:
    """A coroutine passed instead of the function is refused and closed: no warning says that it was never awaited."""
    decorate: Callable[..., object] = supervise(retry_on=ConnectionError)
    call = fetch()
    with pytest.raises(
        TypeError,
        match=words("supervise takes a function, not its call", "(fetch), without the parentheses after fetch"),
    ):
        decorate(call)
    assert isinstance(call, CoroutineType)
    assert call.cr_frame is None


# Return values of the user's functions


@pytest.mark.parametrize("answer", ["5", b"5", 1j, []], ids=repr)
async def test_bad_return_value_of_a_predicate(answer: float, supervise: Supervise) -> None:
    """A predicate whose return value is not a number is named in the error, whose context is the function's own."""

    def decide_badly(_: Exception) -> float:
        return answer

    @supervise(retry_on=decide_badly)
    async def func() -> None:
        raise ConnectionError

    rule = "the return value of retry_on (decide_badly), if not a bool or None, must be a number of seconds,"
    with pytest.raises(TypeError, match=words(rule, f"got {shown(answer)}")) as caught:
        await func()
    assert isinstance(caught.value.__context__, ConnectionError)


@pytest.mark.parametrize(
    ("answer", "kind"), [(-1, ValueError), (math.nan, ValueError), (None, TypeError), (True, TypeError)], ids=repr
)
async def test_bad_return_value_of_a_backoff(answer: float, kind: type[Exception], supervise: Supervise) -> None:
    """A backoff whose return value is not a valid delay is named in the error."""

    def wait_badly(_: int, __: Exception) -> float:
        return answer

    @supervise(retry_on=ConnectionError, backoff=wait_badly)
    async def func() -> None:
        raise ConnectionError

    with pytest.raises(
        kind, match=words("the delay that backoff", "wait_badly", "retry 0", SECONDS_OR_0, f"got {answer!r}")
    ):
        await func()
