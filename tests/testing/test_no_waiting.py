"""`no_waiting`: waits take no time, and all decisions stay those of production."""

import asyncio
import contextlib
import math

import pytest

from aiosupervise import (
    Budget,
    Overload,
    Policy,
    Reason,
    RetryAfter,
    map_all,
    run_all,
    supervise,
    verdict,
)
from aiosupervise._call.no_waiting import no_waits
from aiosupervise.testing import no_waiting, script

pytestmark = pytest.mark.looptime

SLOW = Policy(retry_on=ConnectionError, backoff=[1000.0], max_retries=3)


def now() -> float:
    return asyncio.get_running_loop().time()


async def attempts_of(policy: Policy, **cap: int | None) -> int:
    """How many attempts a call makes that never succeeds, in a block with this cap."""
    fetch = script(*[ConnectionError] * 50)
    with no_waiting(**cap), pytest.raises(ConnectionError):
        await supervise(policy)(fetch)()
    return len(fetch.calls)


async def test_waits_take_no_time() -> None:
    """A call with long waits is done at once, with all its retries."""
    begun = now()
    assert await attempts_of(SLOW) == 4
    assert now() == begun


async def test_outside_the_block_waits_take_their_time() -> None:
    """Nothing is left of the block after its end, also when an error ends it."""
    with contextlib.suppress(LookupError), no_waiting():
        raise LookupError
    begun = now()
    await supervise(SLOW)(script(ConnectionError, "ok"))()
    assert now() == begun + 1000


async def test_a_retry_after_takes_no_time() -> None:
    """The wait that the server asks for takes no time either."""
    begun = now()
    with no_waiting():
        assert await supervise(SLOW)(script(RetryAfter(50), "ok"))() == "ok"
    assert now() == begun


@pytest.mark.parametrize(
    ("policy_has", "cap", "attempts"), [(3, None, 4), (3, 1, 2), (3, 0, 1), (3, 3, 4), (3, 7, 4), (None, 5, 6)]
)
async def test_the_cap_lowers_the_retries_and_never_raises_them(
    policy_has: int | None, cap: int | None, attempts: int
) -> None:
    """A call makes as many retries as its policy and the cap both allow; None is no cap."""
    assert await attempts_of(SLOW.replace(max_retries=policy_has), max_retries=cap) == attempts


@pytest.mark.parametrize(
    ("policy", "error", "reason"),
    [
        (SLOW.replace(deadline=500.0), ConnectionError, Reason.DEADLINE),
        (SLOW.replace(max_retry_after=10.0), RetryAfter(11), Reason.RETRY_AFTER_TOO_LONG),
        (SLOW.replace(budget=Budget(capacity=1)), ConnectionError, Reason.BUDGET),
        (SLOW.replace(irrecoverable=ConnectionError), ConnectionError, Reason.IRRECOVERABLE),
    ],
    ids=str,
)
async def test_decisions_are_those_of_production(
    policy: Policy, error: type[Exception] | Exception, reason: Reason
) -> None:
    """A wait past the deadline, a retry-after too long, an empty budget: the call gives up as it would."""
    with no_waiting(), pytest.raises(Exception) as raised:  # noqa: PT011 - the verdict says which one
        await supervise(policy)(script(error))()
    given_up = verdict(raised.value)
    assert given_up is not None
    assert (given_up.attempts, given_up.reason) == (1, reason)


async def test_what_is_not_a_wait_takes_its_time() -> None:
    """The function's own sleep, and so an attempt timeout, are untouched."""

    @supervise(SLOW.replace(attempt_timeout=5.0, max_retries=2))
    async def hang() -> None:
        await asyncio.sleep(100)

    begun = now()
    with no_waiting(), pytest.raises(TimeoutError):
        await hang()
    assert now() == begun + 15


async def test_other_tasks_get_to_run_between_the_attempts() -> None:
    """A call that retries without waiting does not keep the loop to itself."""
    seen: list[str] = []

    @supervise(retry_on=ConnectionError)
    async def fetch() -> None:
        seen.append("attempt")
        if len(seen) < 3:
            raise ConnectionError

    async def other() -> None:
        seen.append("other")

    with no_waiting():
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch())
            group.create_task(other())
    assert seen == ["attempt", "other", "attempt"]


async def test_pauses_of_a_run_take_no_time() -> None:
    """A run whose budget is empty pauses, probes and stops, all at once; so does one whose server asks to wait."""
    down = supervise(SLOW)(script(*[ConnectionError] * 100))
    busy = supervise(SLOW)(script(RetryAfter(30), RetryAfter(30), "ok", "ok"))
    begun = now()
    with no_waiting():
        stopped = await run_all(
            [down, down], overload=Overload(Budget(capacity=10), first_pause=100, longest_pause=500)
        )
        waited = await run_all([busy, busy])
    assert [outcome.reason for outcome in stopped.failed] == [Reason.BUDGET, Reason.BUDGET]
    assert waited.values() == ["ok", "ok"]
    assert now() == begun


async def test_tasks_started_inside_see_it_and_others_do_not() -> None:
    """It holds in its own context and in those made from it: jobs of a run inside, no task from before."""
    go = asyncio.Event()

    async def rules(_: int = 0) -> object:
        await go.wait()
        return no_waits.get()

    before = asyncio.create_task(rules())
    with no_waiting(max_retries=2):
        inside = asyncio.create_task(rules())
        jobs = asyncio.create_task(map_all(rules, [1])._finish())
        await asyncio.sleep(0)
        here = no_waits.get()
        assert here is not None
        assert here.max_retries == 2
    go.set()
    assert [await before, await inside, (await jobs).values()] == [None, here, [here]]
    assert no_waits.get() is None


async def test_of_blocks_inside_each_other_the_inner_rules() -> None:
    """The inner block's cap holds, even where the outer one is lower, and the outer one's again after it."""
    with no_waiting(max_retries=0):
        assert await attempts_of(SLOW, max_retries=2) == 3
        assert await attempts_of(SLOW) == 4
        with pytest.raises(ConnectionError):
            await supervise(SLOW)(script(ConnectionError))()


async def test_one_block_can_be_entered_again() -> None:
    """The same object serves twice, also inside of itself."""
    block = no_waiting(max_retries=1)
    with block:
        with block, no_waiting():
            pass
        assert no_waits.get() is not None
    assert no_waits.get() is None
    with block:
        assert no_waits.get() is not None


@pytest.fixture
async def quick() -> object:
    """A user's fixture."""
    with no_waiting():
        yield


@pytest.mark.usefixtures("quick")
async def test_a_fixture_can_hold_the_block() -> None:
    """An async fixture, whose end runs in another context than its begin, serves too."""
    begun = now()
    await supervise(SLOW)(script(ConnectionError, "ok"))()
    assert now() == begun


@pytest.mark.parametrize(
    ("cap", "error"), [(-1, ValueError), (1.5, TypeError), (math.nan, TypeError), (True, TypeError), ("1", TypeError)]
)
def test_a_cap_that_makes_no_sense_is_refused(cap: int, error: type[Exception]) -> None:
    """The text names the argument and says what None means."""
    with pytest.raises(
        error, match=r"max_retries must be an integer of at least 0, or None for the limit of each policy; got"
    ):
        no_waiting(max_retries=cap)


def test_it_is_no_decorator() -> None:
    """Around an async function it would do nothing, silently; so it refuses."""
    with pytest.raises(TypeError, match="not callable"):
        no_waiting()(attempts_of)  # type: ignore[operator]  # the mistake in question


def test_plain_functions_do_not_wait() -> None:
    """Neither they nor blocks, without a loop."""
    with no_waiting():
        assert supervise(retry_on=ConnectionError, backoff=[999])(script(ConnectionError, "ok").plain)() == "ok"
        load = script(ConnectionError, "ok")
        for attempt in Policy(retry_on=ConnectionError, backoff=[999]):
            with attempt:
                load.plain()
    assert len(load.calls) == 2
