"""A limit that finds itself: one more for each round of successes, half at a sign of overload."""

import asyncio
import contextlib
import math
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from aiosupervise import Adaptive, AttemptTimeout, Budget, GiveUp, Overload, map_all, run_all, supervise

from .service import POLICY, BusyError, DownError, Service, now

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize(("settings", "fields"), [((), (10, 200, 1)), ((5, 6, 2), (5, 6, 2)), ((1, 1, 1), (1, 1, 1))])
def test_its_fields(settings: tuple[int, ...], fields: tuple[int, ...]) -> None:
    """Start, maximum, minimum; 10, 200 and 1 by default."""
    adaptive = Adaptive(*settings)
    assert (adaptive.start, adaptive.maximum, adaptive.minimum) == fields


NO_INTS: list[object] = [None, True, 10.0, math.nan, math.inf, "10", int]
BAD: list[tuple[dict[str, object], type[Exception], list[str]]] = [
    ({"start": 5, "maximum": 4}, ValueError, ["maximum", "at least 5", "4"]),
    ({"start": 5, "minimum": 6}, ValueError, ["start", "at least 6", "5"]),
    ({"start": 0}, ValueError, ["start", "at least 1", "0"]),
    ({"minimum": 0}, ValueError, ["minimum", "at least 1", "0"]),
    ({"maximum": -1}, ValueError, ["maximum", "at least 10", "-1"]),
    *(
        ({name: value}, TypeError, [name, "int", repr(value)])
        for name in ("start", "maximum", "minimum")
        for value in NO_INTS
    ),
]


@pytest.mark.parametrize(("options", "kind", "words"), BAD, ids=[str(options) for options, _, _ in BAD])
def test_bad_numbers_are_refused(options: dict[str, object], kind: type[Exception], words: list[str]) -> None:
    """The error names the argument, the rule and what was given."""
    make: Callable[..., Adaptive] = Adaptive
    with pytest.raises(kind, match=f"^{words[0]} must be ") as caught:
        make(**options)
    for word in words:
        assert word in str(caught.value)


def test_the_class_is_no_limit() -> None:
    """`limit=Adaptive` without its parentheses is refused at once."""
    limit: Any = Adaptive
    with pytest.raises(TypeError, match=r"limit must be .*Adaptive"):
        map_all(Service(), [1], limit=limit)


def started(service: Service) -> list[int]:
    """How many were started in each second."""
    return [count for _, count in sorted(Counter(int(time) for time, _ in service.attempts).items())]


@pytest.mark.parametrize(
    ("setting", "starts"),
    [
        pytest.param(Adaptive(start=4), [4, 5, 6, 7, 8]),
        pytest.param(Adaptive(start=1), [1, 2, 3, 4, 5]),
        pytest.param(Adaptive(start=4, maximum=6), [4, 5, 6, 6, 6]),
        (Adaptive(start=4, maximum=4), [4, 4, 4, 4, 4]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("streamed", [False, True], ids=["awaited", "streamed"])
async def test_one_more_for_each_round_of_successes(setting: Adaptive, starts: list[int], *, streamed: bool) -> None:
    """As many successes as the limit make it one more, up to the maximum, and the new slot is filled at once."""
    service = Service(takes=1)
    run = map_all(service, range(sum(starts)), limit=setting)
    assert run.tally.limit == setting.start
    if streamed:
        async with run:
            assert len([outcome async for outcome in run]) == sum(starts)
    else:
        await run
    assert started(service) == starts


async def test_each_success_counts_for_a_round() -> None:
    """Jobs that end one after the other, all slots taken: the limit is one more after each round of them."""
    limits: list[int | None] = []

    async def job(number: int) -> None:
        await asyncio.sleep(1 + number % 4 / 10)
        limits.append(run.tally.limit)

    run = map_all(job, range(14), limit=Adaptive(start=4, maximum=6))
    await run
    assert limits == [4] * 4 + [5] * 5 + [6] * 5


@pytest.mark.parametrize(("takes", "grows"), [(0.35, False), (0.75, False), (0.95, True), (1.15, True)])
async def test_it_grows_only_while_half_of_the_places_are_taken(takes: float, *, grows: bool) -> None:
    """Jobs that come slowly, so that fewer than five of ten slots are taken, prove nothing."""

    async def source() -> AsyncIterator[int]:
        for number in range(60):
            yield number
            await asyncio.sleep(0.2)

    report = await map_all(Service(takes=takes), source(), limit=Adaptive(start=10))
    assert (report.tally.limit or 0) > 10 if grows else report.tally.limit == 10


async def test_failures_are_no_successes() -> None:
    """A round of failed jobs does not make the limit grow, and does not make it shrink either."""
    service = Service(takes=1, back=5.5)
    run = map_all(service, range(30), limit=Adaptive(start=5))
    await run
    assert started(service)[:6] == [5] * 6


class Slow:
    """Fails in one of the ways that show an overload, or in one that does not."""

    def __init__(self, make: Callable[[], Exception] | None) -> None:
        self.make = make

    async def __call__(self) -> None:
        if self.make is None:
            await asyncio.sleep(100)
        else:
            raise self.make()


PATIENT = POLICY.replace(max_retries=0)
SIGNS: dict[str, Callable[[], Any]] = {
    "attempt timeout": lambda: supervise(PATIENT.replace(attempt_timeout=1))(Slow(None)),
    "attempt timeout, irrecoverable": lambda: supervise(
        PATIENT.replace(attempt_timeout=1, irrecoverable=AttemptTimeout)
    )(Slow(None)),
    "timeout, listed": lambda: supervise(PATIENT.replace(retry_on=TimeoutError))(Slow(TimeoutError)),
    "timeout, not listed": lambda: supervise(PATIENT)(Slow(TimeoutError)),
    "timeout, irrecoverable": lambda: supervise(PATIENT.replace(irrecoverable=TimeoutError))(Slow(TimeoutError)),
    "timeout in a group": lambda: supervise(PATIENT.replace(retry_on=OSError))(
        Slow(lambda: ExceptionGroup("", [OSError(), TimeoutError()]))
    ),
    "timeout of a bare job": lambda: Slow(TimeoutError),
    "deadline": lambda: supervise(PATIENT.replace(deadline=1))(Slow(None)),
    "retry-after": lambda: supervise(PATIENT)(Slow(lambda: BusyError(1))),
    "retry-after, to be retried": lambda: supervise(POLICY.replace(max_retries=1))(once(lambda: BusyError(1))),
}
NO_SIGNS: dict[str, Callable[[], Any]] = {
    "transient": lambda: supervise(PATIENT)(Slow(DownError)),
    "transient, to be retried": lambda: supervise(POLICY)(once(DownError)),
    "unlisted": lambda: supervise(PATIENT)(Slow(LookupError)),
    "irrecoverable": lambda: supervise(PATIENT.replace(irrecoverable=DownError))(Slow(DownError)),
    "GiveUp": lambda: supervise(PATIENT)(Slow(GiveUp)),
    "bare": lambda: Slow(OSError),
    "cancelled": lambda: Slow(asyncio.CancelledError),  # type: ignore[arg-type]  # it is raised all the same
}


def once(make: Callable[[], Exception]) -> Callable[[], Any]:
    """A function that fails at first."""
    failures = [make]

    async def fail_once() -> None:
        if failures:
            error = failures.pop()()
            raise error

    return fail_once


@pytest.mark.parametrize("overload", [Overload(), None], ids=["protected", "unprotected"])
@pytest.mark.parametrize("sign", SIGNS)
async def test_a_sign_of_overload_halves_it(sign: str, overload: Overload | None) -> None:
    """Attempts that time out, timeouts that are raised, and a server that asks to wait; whatever the policy says."""
    report = await run_all([SIGNS[sign]()], limit=Adaptive(start=20), overload=overload)
    assert report.tally.limit == 10


@pytest.mark.parametrize("overload", [Overload(), None], ids=["protected", "unprotected"])
@pytest.mark.parametrize("sign", NO_SIGNS)
async def test_no_other_error_halves_it(sign: str, overload: Overload | None) -> None:
    """Errors that are not about load say nothing about the limit."""
    report = await run_all([NO_SIGNS[sign]()], limit=Adaptive(start=20), overload=overload)
    assert report.tally.limit == 20


@pytest.mark.parametrize(
    ("setting", "limits"),
    [(Adaptive(start=16), [16, 8, 4, 2, 1]), (Adaptive(start=16, minimum=5), [16, 8, 5, 5, 5])],
    ids=repr,
)
@pytest.mark.parametrize("overload", [Overload(budget=Budget(capacity=10_000)), None], ids=["protected", "unprotected"])
async def test_one_burst_halves_it_once(setting: Adaptive, limits: list[int], overload: Overload | None) -> None:
    """All that time out together halve it once; their retries time out together and halve it again; to the minimum."""
    seen: list[int | None] = []

    @supervise(retry_on=TimeoutError, backoff=[1], max_retries=4, attempt_timeout=1)
    async def hang(_: int) -> None:
        await asyncio.sleep(100)

    run = map_all(hang, range(16), limit=setting, overload=overload)
    for halvings in range(5):
        asyncio.get_running_loop().call_at(2 * halvings + 0.5, lambda: seen.append(run.tally.limit))
    await run
    assert seen == limits


async def test_stragglers_of_a_generation_do_not_halve_it_again() -> None:
    """What started before the halving and times out later says nothing new; what started after it does."""
    limits: list[int | None] = []

    async def job(seconds: float) -> None:
        await asyncio.sleep(seconds)
        limits.append(run.tally.limit)
        raise TimeoutError

    run = run_all([partial(job, seconds) for seconds in (1, 2, 3, 4, 10)], limit=Adaptive(start=4, minimum=1))
    await run
    assert limits == [4, 2, 2, 2, 2]
    assert run.tally.limit == 1


async def test_a_round_begins_anew_after_a_halving() -> None:
    """Successes from before it do not count for growth after it."""

    async def job(kind: str) -> None:
        await asyncio.sleep({"ok": 1, "late": 2, "fine": 3}[kind])
        if kind == "late":
            raise TimeoutError

    run = run_all([partial(job, kind) for kind in ["ok"] * 7 + ["late"] + ["fine"] * 3], limit=Adaptive(start=8))
    await run
    assert run.tally.limit == 4


@pytest.mark.parametrize("source", ["range", "async"])
async def test_nothing_starts_beyond_the_limit_in_force(source: str) -> None:
    """While it grows and shrinks, no job's task is made unless a slot is free for it at that moment."""
    beyond: list[tuple[float, int, int | None]] = []
    limits: set[int | None] = set()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        limits.add(run.tally.limit)
        if run.tally.running >= (run.tally.limit or 0):
            beyond.append((now(), run.tally.running, run.tally.limit))
        return asyncio.Task(coro, loop=loop, **options)

    async def job(number: int) -> None:
        await asyncio.sleep(0.1 + number % 7 / 10)
        if number % 23 == 22:
            raise TimeoutError

    async def slowly() -> AsyncIterator[int]:
        for number in range(300):
            await asyncio.sleep(0.03)
            yield number

    run = map_all(job, range(300) if source == "range" else slowly(), limit=Adaptive(start=10, maximum=20))
    asyncio.get_running_loop().set_task_factory(factory)
    assert len(await run) == 300
    assert beyond == []
    assert len(limits) > 5


async def test_each_run_has_a_limit_of_its_own() -> None:
    """One setting serves many runs: what the one has found out the other does not know."""
    setting = Adaptive(start=8)
    await run_all([Slow(TimeoutError)], limit=setting)
    run = map_all(Service(), range(3), limit=setting)
    assert (await run).tally.limit == 8


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_signs_of_overload_in_the_first_step_of_an_eager_task_count() -> None:
    """A user's own eager task factory runs the first step of a job before the engine has its task."""

    @supervise(retry_on=TimeoutError, max_retries=0)
    async def call(x: int) -> None:
        if x >= 20:
            raise TimeoutError

    async def job(x: int) -> None:
        with contextlib.suppress(TimeoutError):
            await call(x)
        limits.append(run.tally.limit)
        await asyncio.sleep(1)

    limits: list[int | None] = []
    make: Any = vars(asyncio)["create_eager_task_factory"]
    asyncio.get_running_loop().set_task_factory(make(lambda coro, **settings: asyncio.Task(coro, **settings)))  # noqa: PLW0108 - the factory takes what the loop gives it
    run = map_all(job, range(60), limit=Adaptive(16), overload=None)
    await run
    assert limits[-1] == 1
