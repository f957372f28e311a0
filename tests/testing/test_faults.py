"""`Faults`: some calls fail, at random but always the same ones."""

import asyncio
import functools
import gc
import inspect
import math
import random
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine

import pytest

from aiosupervise import Policy, map_all, supervise
from aiosupervise.testing import Faults, no_waiting, script


async def echo(number: int, *, times: int = 1) -> list[int]:
    """Say it again."""
    return [number] * times


class NeedsMore(Exception):  # noqa: N818 - a name to be seen in texts
    def __init__(self, status: int) -> None:
        super().__init__(status)


async def played(faults: Faults, calls: int) -> list[str]:
    """Return how each of this many calls ended."""
    flaky = faults(echo)
    ends = []
    for number in range(calls):
        try:
            ends.append(str(await flaky(number)))
        except Exception as error:
            ends.append(type(error).__name__)
    return ends


async def failing(faults: Faults, calls: int) -> set[int]:
    """The numbers of the calls that fail."""
    return {number for number, end in enumerate(await played(faults, calls)) if "Error" in end}


async def test_the_same_seed_brings_the_same_faults() -> None:
    """Which calls fail, and with what, is decided by the seed."""
    both = (ConnectionError, TimeoutError)
    first = await played(Faults(0.5, both, seed=3), 50)
    assert await played(Faults(0.5, both, seed=3), 50) == first
    assert await played(Faults(0.5, both, seed=4), 50) != first


async def test_the_faults_of_a_seed_stay_as_they_are() -> None:
    """A test that was written against a seed keeps its meaning, on every Python and in every version."""
    assert await played(Faults(0.4, (ConnectionError, TimeoutError), seed=1), 8) == [
        "TimeoutError",
        "[1]",
        "[2]",
        "[3]",
        "ConnectionError",
        "[5]",
        "[6]",
        "[7]",
    ]


async def test_neither_rate_nor_errors_shift_the_faults() -> None:
    """A higher rate lets the same calls fail and others too; other errors fail the same calls."""
    few = await failing(Faults(0.2, seed=1), 200)
    assert few < await failing(Faults(0.5, seed=1), 200)
    assert few == await failing(Faults(0.2, (ValueError, OSError, KeyError), seed=1), 200)


async def test_a_rate_of_zero_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the smallest of all random numbers is drawn, which is 0."""

    class Smallest(random.Random):
        def random(self) -> float:
            return 0.0

    monkeypatch.setattr(random, "Random", Smallest)
    assert await played(Faults(0, seed=1), 3) == ["[0]", "[1]", "[2]"]
    assert await played(Faults(0.001, seed=1), 1) == ["ConnectionError"]


async def test_the_share_and_the_errors_are_as_asked() -> None:
    """About `rate` of many calls fail, each error about as often as the others, and `injected` counts them."""
    faults = Faults(0.2, (ConnectionError, TimeoutError), seed=7)
    ends = Counter(await played(faults, 5000))
    assert faults.injected == ends["ConnectionError"] + ends["TimeoutError"]
    assert faults.calls == 5000
    assert 900 < faults.injected < 1100
    assert 400 < ends["ConnectionError"] < 600


@pytest.mark.parametrize(("rate", "injected"), [(0, 0), (0.0, 0), (1, 100), (1.0, 100)])
async def test_the_ends_of_the_scale(rate: float, injected: int) -> None:
    """0 lets no call fail, 1 every call."""
    faults = Faults(rate, seed=2)
    await played(faults, 100)
    assert faults.injected == injected


async def test_the_arguments_reach_the_function() -> None:
    """Positional and keyword arguments are passed on."""

    def plain_echo(number: int, *, times: int = 1) -> list[int]:
        return [number] * times

    assert await Faults(0, seed=1)(echo)(7, times=3) == [7, 7, 7]
    assert Faults(0, seed=1)(plain_echo)(7, times=3) == [7, 7, 7]


async def test_a_fault_comes_before_the_call_and_says_that_it_was_injected() -> None:
    """The function is not called; the error is new each time and has a note."""
    fetch = script()
    flaky = Faults(1, seed=5)(fetch)
    errors = []
    for _ in range(2):
        with pytest.raises(ConnectionError) as raised:
            await flaky("a")
        errors.append(raised.value)
    assert fetch.calls == []
    assert errors[0] is not errors[1]
    assert errors[1].__notes__ == ["injected into call 2 by Faults(1, seed=5)"]


async def test_one_sequence_for_all_functions() -> None:
    """Functions inside of the same faults share the sequence and the count, in the order in which the calls begin."""
    alone = await failing(Faults(0.5, seed=1), 20)
    faults = Faults(0.5, seed=1)
    flaky = [faults(echo), faults(echo)]
    coroutines = [flaky[number % 2](number) for number in range(20)]
    ends = await asyncio.gather(*coroutines, return_exceptions=True)
    assert {number for number, end in enumerate(ends) if isinstance(end, Exception)} == alone
    assert repr(faults) == f"<Faults(0.5, seed=1): {len(alone)} of 20 calls failed>"


async def test_faults_inside_of_supervise_are_retried() -> None:
    """That is what it is for: all inputs succeed although many attempts fail."""
    faults = Faults(0.3, (ConnectionError, TimeoutError), seed=1)
    policy = Policy(retry_on=(ConnectionError, TimeoutError), max_retries=None)
    with no_waiting():
        report = await map_all(supervise(policy)(faults(echo)), range(100))
    assert report.values() == [[number] for number in range(100)]
    assert report.tally.retries == faults.injected > 20


def test_the_function_looks_as_before() -> None:
    """Name, docstring, signature and bare function are kept, and it is still an async function."""
    flaky = Faults(0.1, seed=1)(echo)
    assert flaky.__name__ == "echo"
    assert flaky.__doc__ == "Say it again."
    assert inspect.signature(flaky) == inspect.signature(echo)
    assert inspect.iscoroutinefunction(flaky)
    assert inspect.unwrap(flaky) is echo


class Client:
    async def get(self, number: int) -> int:
        return number

    async def __call__(self, number: int) -> int:
        return number

    @Faults(0, seed=1)
    async def decorated(self, number: int) -> int:
        return number


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (Client().get, "get"),
        (Client().decorated, "decorated"),
        (functools.partial(Client.get, Client()), "get"),
        (Client(), "Client"),
        (script(1), "script"),
    ],
    ids=["method", "decorated method", "partial", "object", "script"],
)
async def test_it_goes_around_what_supervise_takes(
    func: Callable[[int], Coroutine[object, None, int]], name: str
) -> None:
    """Methods, partials and objects with an async `__call__` keep their names and work."""
    flaky = Faults(0, seed=1)(func)
    assert flaky.__name__ == name
    assert inspect.unwrap(flaky, stop=lambda inner: inner is func) is func
    assert await flaky(1) == 1
    assert supervise(retry_on=OSError)(flaky).__name__ == name


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (3, "Faults wrap a function; got 3"),
        (Client, "Faults wrap a function; got a value of type type"),
    ],
    ids=str,
)
def test_other_things_are_refused(func: Callable[[int], Coroutine[object, None, int]], text: str) -> None:
    """Any argument that is not a function raises a TypeError with the rule."""
    with pytest.raises(TypeError, match=text):
        Faults(0.1, seed=1)(func)


def test_a_coroutine_is_refused_and_closed() -> None:
    """A call in place of the function is a TypeError that shows the right code; the coroutine warns no more."""
    coroutine = echo(1)
    with pytest.raises(TypeError, match=r"not its call: faults\(echo\), without parentheses"):
        Faults(0.1, seed=1)(coroutine)  # type: ignore[arg-type]  # the mistake in question
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf, 10**400, True, "0.1", None])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    """The message explains the ends of the scale, and shows the given value."""
    kind = ValueError if isinstance(rate, (int, float)) and not isinstance(rate, bool) else TypeError
    rule = r"rate must be a number from 0 \(no call fails\) to 1 \(every call fails\)"
    with pytest.raises(kind, match=f"^{rule}; got {rate!r}$"):
        Faults(rate, seed=1)


@pytest.mark.parametrize(
    ("errors", "kind", "text"),
    [
        ((), ValueError, "the tuple is empty: for no faults, set the rate to 0"),
        (KeyboardInterrupt, TypeError, "got <class 'KeyboardInterrupt'>"),
        ((OSError, int), TypeError, "got <class 'int'>"),
        ([OSError], TypeError, "got a value of type list"),
        (
            OSError("x"),
            TypeError,
            r"got an instance: give the class OSError, since each fault raises a new instance",
        ),
        (
            NeedsMore,
            TypeError,
            "NeedsMore cannot be created without arguments: .*status.*; give a subclass of NeedsMore",
        ),
    ],
    ids=str,
)
def test_errors_that_cannot_be_raised_are_refused(errors: type[Exception], kind: type[Exception], text: str) -> None:
    """The text says what is allowed, and what to give instead."""
    with pytest.raises(kind, match=f"^errors must be a subclass of Exception, or a tuple of them; .*{text}"):
        Faults(0.1, errors, seed=1)


@pytest.mark.parametrize(("seed", "kind"), [(None, TypeError), (1.0, TypeError), (-1, ValueError), (True, TypeError)])
def test_a_seed_is_an_int(seed: int, kind: type[Exception]) -> None:
    """None, which random takes for any seed, would bring other faults each time."""
    with pytest.raises(kind, match="seed must be an integer of at least 0; got"):
        Faults(0.1, seed=seed)


async def test_a_fault_is_kept_by_nobody() -> None:
    """An injected error and its frames do not keep each other alive."""

    class Traced(Exception):  # noqa: N818 - one that weak references can have
        pass

    async def use() -> "weakref.ref[BaseException]":
        try:
            await Faults(1, Traced, seed=1)(echo)(1)
        except Traced as error:
            return weakref.ref(error)
        pytest.fail("it did not raise")

    gc.collect()
    gc.disable()
    try:
        assert (await use())() is None
    finally:
        gc.enable()


def test_plain_functions() -> None:
    """They stay plain, and fail in the same calls as async ones."""
    faults = Faults(0.5, seed=3)

    @supervise(retry_on=ConnectionError, max_retries=None, backoff=[0])
    @faults
    def load(page: int) -> int:
        return page

    assert [load(page) for page in range(50)] == list(range(50))
    assert faults.injected == faults.calls - 50 > 0
