"""`attempt()`: which attempt a supervised function is in."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import pytest

from aiosupervise import Attempt, Policy, attempt, listen, map_all, run_all, supervise

from .endings import Kept
from .forms import Supervise, only_async, pass_time

pytestmark = pytest.mark.looptime

POLICY = Policy(retry_on=ConnectionError, backoff=[1.0])
LIMITED = POLICY.replace(deadline=100, attempt_timeout=50, gate=asyncio.Semaphore(10))
POLICIES = pytest.mark.parametrize("policy", [POLICY, LIMITED], ids=["plain", "guarded"])
LISTENED = pytest.mark.parametrize("around", [nullcontext, partial(listen, Kept())], ids=["alone", "listened to"])


class Asking:
    """A function that calls `attempt()`, and fails `fails` times before it succeeds."""

    def __init__(self, fails: int) -> None:
        self.errors = [ConnectionError(number) for number in range(fails)]
        self.answers: list[Attempt] = []

    async def __call__(self) -> None:
        self.answers.append(attempt())
        if len(self.answers) <= len(self.errors):
            raise self.errors[len(self.answers) - 1]


@POLICIES
@LISTENED
async def test_number_and_previous_error(
    policy: Policy, around: Callable[[], AbstractContextManager[None]], supervise: Supervise
) -> None:
    """The first attempt is number 1 and has no previous error; each later one has that of the one before it."""
    asking = Asking(2)
    with around():
        await supervise(policy)(asking)()
    assert [answer.number for answer in asking.answers] == [1, 2, 3]
    assert [answer.previous_error for answer in asking.answers] == [None, *asking.errors]
    assert all(error.__traceback__ is None for error in asking.errors)


def linked(link: str) -> tuple[Exception, Exception]:
    """Return an error, and another error to which it refers, which has a traceback."""
    other = ConnectionError("other")
    try:
        raise other
    except ConnectionError:
        pass
    if link == "group":
        return ExceptionGroup("", [ExceptionGroup("", [other])]), other
    error = ConnectionError("last")
    setattr(error, link, other)
    return error, other


@pytest.mark.parametrize("link", ["__cause__", "__context__", "group"])
async def test_nothing_that_the_previous_error_refers_to_has_a_traceback(link: str, supervise: Supervise) -> None:
    """A traceback of its cause, its context or a leaf would keep local variables of the failed attempt alive."""
    error, other = linked(link)
    assert other.__traceback__ is not None

    @supervise(POLICY)
    async def fetch() -> Attempt:
        if attempt().number == 1:
            raise error
        return attempt()

    assert (await fetch()).previous_error is error
    assert other.__traceback__ is None


@LISTENED
async def test_time_left(around: Callable[[], AbstractContextManager[None]], supervise: Supervise) -> None:
    """`time_left` is the time until the deadline, waits included; None for a policy without a deadline."""
    asking = Asking(2)
    with around():
        await supervise(POLICY.replace(deadline=100))(asking)()
    assert [answer.time_left for answer in asking.answers] == [100.0, 99.0, 98.0]
    plain = Asking(1)
    await supervise(POLICY)(plain)()
    assert [answer.time_left for answer in plain.answers] == [None, None]
    timed = Asking(1)
    await supervise(POLICY.replace(attempt_timeout=5))(timed)()
    assert [answer.time_left for answer in timed.answers] == [None, None]


async def test_asked_by_a_helper(supervise: Supervise) -> None:
    """A function that the supervised one calls or awaits gets the same answer."""

    def plain_helper() -> Attempt:
        return attempt()

    async def async_helper() -> Attempt:
        await pass_time(1)
        return attempt()

    @supervise(POLICY)
    async def fetch() -> tuple[Attempt, Attempt, Attempt]:
        return attempt(), plain_helper(), await async_helper()

    assert len(set(await fetch())) == 1


async def test_nested_calls(supervise: Supervise) -> None:
    """Each call gets its own answer, also after the inner one has failed and come back."""
    inner = Asking(2)
    numbers: list[int] = []

    @supervise(POLICY)
    async def outer() -> None:
        numbers.append(attempt().number)
        if len(numbers) == 1:
            raise ConnectionError
        await supervise(POLICY)(inner)()
        numbers.append(attempt().number)

    await outer()
    assert numbers == [1, 2, 2]
    assert [answer.number for answer in inner.answers] == [1, 2, 3]


@only_async
async def test_concurrent_calls(supervise: Supervise) -> None:
    """Calls of one function that run at the same time do not see each other's attempts."""

    async def fails(times: int) -> list[int]:
        numbers: list[int] = []

        @supervise(POLICY)
        async def fetch() -> None:
            await asyncio.sleep(0.1 * times)
            numbers.append(attempt().number)
            if len(numbers) <= times:
                raise ConnectionError

        await fetch()
        return numbers

    report = await map_all(fails, range(4))
    assert report.values() == [list(range(1, times + 2)) for times in range(4)]


async def test_in_a_job_of_a_run(supervise: Supervise) -> None:
    """A supervised job gets its own answer; a run inside a supervised call has jobs of its own."""
    asking = Asking(1)
    await run_all([supervise(POLICY)(asking)])
    assert [answer.number for answer in asking.answers] == [1, 2]


async def nothing_around() -> None:
    """Call `attempt()` outside of a supervised call."""
    attempt()


async def in_a_task_of_its_own() -> None:
    """Call `attempt()` in a task that a supervised function starts."""

    @supervise(POLICY)
    async def fetch() -> None:
        await asyncio.create_task(nothing_around())

    await fetch()


@pytest.mark.parametrize("ask", [nothing_around, in_a_task_of_its_own])
async def test_outside_of_a_supervised_call(ask: Callable[[], Awaitable[None]]) -> None:
    """A RuntimeError is raised, which says where to call it."""
    with pytest.raises(RuntimeError, match="call it in one, in the task that runs it, not in a task that it starts"):
        await ask()


def test_without_a_loop() -> None:
    """Without a running event loop it raises the same error."""
    with pytest.raises(RuntimeError, match="outside a supervised function"):
        attempt()
