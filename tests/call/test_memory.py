"""A failing call leaves no reference cycles, and during a wait no variables of the failed attempt are alive."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import nullcontext

import pytest

from aiosupervise import Budget, GiveUp, Policy, RetryAfter, attempt, listen

from .forms import Supervise, clock, only_async

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("untraced")]

BASE = Policy(retry_on=(ConnectionError, TimeoutError), backoff=[10], max_retries=2)
POLICIES = {
    "plain": BASE,
    "attempt_timeout": BASE.replace(attempt_timeout=5),
    "deadline": BASE.replace(deadline=500),
    "gate": BASE.replace(gate=asyncio.Semaphore()),
    "budget": BASE.replace(budget=Budget(capacity=10**6)),
    "all of it": BASE.replace(attempt_timeout=5, deadline=500, gate=asyncio.Semaphore(), budget=Budget(capacity=10**6)),
}


class Big:
    """An object in a local variable of an attempt."""


class LostError(ConnectionError):
    """An error that can be referred to weakly, as builtin ones cannot."""


class Failing:
    """A function that holds a Big in a local variable of each attempt and fails in one of many ways."""

    def __init__(self, way: str, *, uses_attempt: bool = False) -> None:
        self.way = way
        self.uses_attempt = uses_attempt
        self.held: list[weakref.ref[Big]] = []
        self.errors: list[weakref.ref[Exception]] = []

    async def __call__(self) -> None:
        big = Big()
        self.held.append(weakref.ref(big))
        if self.uses_attempt:
            attempt()
        try:
            await self.fail()
        except Exception as error:
            self.errors.append(weakref.ref(error))
            if self.way == "context":
                raise LostError  # noqa: B904 - the case in question
            raise

    async def fail(self) -> None:
        if self.way == "hangs":
            if clock.runs_plain_code:
                pytest.skip("plain functions cannot be interrupted")
            await asyncio.sleep(100)
        if self.way == "group":
            raise ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [ConnectionError()])])
        if self.way == "overruled":
            raise RetryAfter(0) from ConnectionError()
        try:
            int("why")
        except ValueError as error:
            if self.way == "cause":
                raise LostError from error
            if self.way == "overruled, in context":
                raise RetryAfter(0)  # noqa: B904 - the case in question
        raise LostError


WAYS = ["plain", "cause", "context", "group", "overruled", "overruled, in context"]
CASES = [pytest.param(POLICIES[name], way, id=f"{name}, {way}") for name in POLICIES for way in WAYS]
CASES += [pytest.param(POLICIES[name], "hangs", id=f"{name}, hangs") for name in ("attempt_timeout", "all of it")]


@pytest.fixture(params=["alone", "listened to", "uses attempt()"])
def uses_attempt(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the function calls `attempt()`; some of the tests without it have a listener."""
    with listen(lambda _: None) if request.param == "listened to" else nullcontext():
        yield request.param == "uses attempt()"


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """Keep what other tests have left out of the collections of these, which would take most of the time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Disable the cyclic collector: only objects without references are freed."""
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


async def fail(call: Coroutine[object, None, object]) -> str:
    """Make a call that fails, drop its error, and return the name of its class."""
    name = "nothing"
    try:
        await call
    except Exception as error:
        name = type(error).__name__
    await asyncio.sleep(0)  # asyncio itself holds a CancelledError until the step that it interrupted is over
    return name


@only_async
@pytest.mark.parametrize(("policy", "way"), CASES)
async def test_no_locals_are_kept_during_the_wait(
    policy: Policy, way: str, supervise: Supervise, *, uses_attempt: bool
) -> None:
    """While a call waits for its retry, the failed attempt's local variables are gone, with all that they refer to."""
    failing = Failing(way, uses_attempt=uses_attempt)
    alive: list[int] = []
    loop = asyncio.get_running_loop()

    def count_alive() -> None:
        alive.append(sum(held() is not None for held in failing.held))

    for seconds in (9, 19.5) if way != "hangs" else (14, 29):
        loop.call_later(seconds, count_alive)
    await fail(supervise(policy)(failing)())
    assert len(failing.held) == 3
    assert alive == [0, 0]


@only_async
async def test_no_locals_of_a_groups_leaves_are_kept_during_the_wait(supervise: Supervise) -> None:
    """The same holds for a group whose leaves come from tasks of their own."""
    held: list[weakref.ref[Big]] = []
    alive: list[int] = []

    async def child() -> None:
        big = Big()
        held.append(weakref.ref(big))
        raise ConnectionError

    @supervise(POLICIES["deadline"])
    async def func() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    asyncio.get_running_loop().call_later(9, lambda: alive.append(sum(big() is not None for big in held)))
    await fail(func())
    assert len(held) == 3
    assert alive == [0]


@pytest.mark.parametrize(("policy", "way"), CASES)
async def test_a_failing_call_leaves_no_cycle(
    policy: Policy, way: str, supervise: Supervise, *, uses_attempt: bool
) -> None:
    """When the caller drops the error, it is freed, and the cyclic collector finds nothing."""
    failing = Failing(way, uses_attempt=uses_attempt)
    supervised = supervise(policy)(failing)
    gc.collect()
    await fail(supervised())
    assert [held() for held in failing.held] == [None, None, None]
    assert all(error() is None for error in failing.errors)
    assert gc.collect() == 0


@pytest.mark.parametrize("kind", ["unlisted", "gives up", "interrupted", "too late"])
@pytest.mark.parametrize("retries", [0, 1])
async def test_every_other_end_leaves_no_cycle(kind: str, retries: int, supervise: Supervise) -> None:
    """A call that ends with an unlisted error, a GiveUp, or its deadline leaves none."""
    held: list[weakref.ref[Big]] = []

    @supervise(BASE.replace(deadline=15, backoff=[10 if kind != "too late" else 20]))
    async def func() -> None:
        big = Big()
        held.append(weakref.ref(big))
        if len(held) <= retries or kind == "too late":
            raise ConnectionError
        if kind == "unlisted":
            raise LookupError
        if kind == "gives up":
            raise GiveUp from LookupError()
        if clock.runs_plain_code:
            pytest.skip("plain functions cannot be interrupted")
        await asyncio.sleep(100)

    ends = {"interrupted": "DeadlineExceeded", "too late": "ConnectionError"}
    gc.collect()
    assert await fail(func()) == ends.get(kind, "LookupError")
    assert all(big() is None for big in held)
    assert gc.collect() == 0


async def test_layers_leave_no_cycle(supervise: Supervise) -> None:
    """Nested calls leave none."""
    failing = Failing("cause")
    inner = supervise(BASE)(failing)

    @supervise(BASE)
    async def outer() -> None:
        await inner()

    gc.collect()
    await fail(outer())
    assert [held() for held in failing.held] == [None, None, None]
    assert gc.collect() == 0


@only_async
async def test_a_cancelled_call_leaves_no_cycle(supervise: Supervise) -> None:
    """A call that is cancelled during a wait leaves none."""
    failing = Failing("cause")
    task = asyncio.create_task(supervise(POLICIES["all of it"])(failing)())
    await asyncio.sleep(5)
    gc.collect()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [held() for held in failing.held] == [None]
    del task
    assert gc.collect() == 0


@pytest.mark.parametrize("tokens", [0, 14])
async def test_a_call_that_cannot_pay_leaves_no_cycle(tokens: int, supervise: Supervise) -> None:
    """A call that gives up because its budget is empty leaves none."""
    failing = Failing("cause")
    supervised = supervise(BASE.replace(budget=Budget(capacity=tokens)))(failing)
    gc.collect()
    assert await fail(supervised()) == "LostError"
    assert [held() for held in failing.held] == [None] * (1 + tokens // 14)
    assert all(error() is None for error in failing.errors)
    assert gc.collect() == 0


@pytest.mark.parametrize("retries", [1, 2, 3])
async def test_one_error_of_all_attempts_leaves_no_cycle(retries: int, supervise: Supervise) -> None:
    """A call whose attempts all raise the same object, which is the last error and an earlier one, leaves none."""
    errors = [LostError()]
    lost = weakref.ref(errors[0])

    @supervise(BASE.replace(max_retries=retries))
    async def func() -> None:
        raise errors[0]

    gc.collect()
    assert await fail(func()) == "LostError"
    errors.clear()
    assert lost() is None
    assert gc.collect() == 0
