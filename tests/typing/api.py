"""Uses the whole public API, and never runs: mypy --strict and pyright read it."""

import asyncio
import contextlib
import functools
import json
import pickle
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import assert_never, assert_type

from aiosupervise import (
    Adaptive,
    Attempt,
    AttemptFailed,
    AttemptStarted,
    AttemptTimeout,
    Backoff,
    Budget,
    CallFinished,
    Child,
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    DeadlineExceeded,
    Escalated,
    Event,
    Failure,
    GaveUp,
    GiveUp,
    GroupPaused,
    GroupResumed,
    GroupStopped,
    JobFinished,
    Journal,
    Outcome,
    Overload,
    Pending,
    Policy,
    Reason,
    Recovered,
    Report,
    RestartsExceeded,
    RetryAfter,
    Run,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    Stopped,
    Success,
    Supervisor,
    Tally,
    Verdict,
    WorkerLost,
    alive,
    attempt,
    listen,
    map_all,
    policy_of,
    ready,
    run_all,
    supervise,
    verdict,
)

# A policy, in all its forms


def answer_with_seconds(error: Exception) -> float | None:
    return getattr(error, "wait", None)


def wait_longer(n: int, error: Exception) -> float:
    return n + len(error.args)


policy = Policy(retry_on=ConnectionError)
Policy(
    retry_on=(ConnectionError, TimeoutError),
    irrecoverable=(PermissionError,),
    max_retries=None,
    backoff=Backoff(base=1, factor=3, cap=60, jitter="none"),
    attempt_timeout=5,
    deadline=60.5,
    max_retry_after=None,
    budget=Budget(capacity=100, cost=10, cost_throttled=3, refill=2),
    gate=asyncio.Semaphore(10),
    name="fetch",
)
Policy(retry_on=answer_with_seconds, irrecoverable=lambda error: "fatal" in str(error), backoff=wait_longer)
Policy(retry_on=lambda error: isinstance(error, OSError), backoff=[1, 2, 5], gate=asyncio.Lock())
Policy(retry_on=lambda error: timedelta(seconds=1) if isinstance(error, OSError) else None)
Policy(retry_on=(), gate={"a": asyncio.Lock()}.__getitem__)
RetryAfter(timedelta(seconds=1))
supervise(policy=policy)
assert_type(policy.replace(max_retries=5, retry_on=OSError, budget=None, gate=None), Policy)
assert_type(Budget().tokens, int)
assert_type(Backoff()(3), float)
assert_type(Backoff()(3, ValueError()), float)


Policy(retry_on=ConnectionError, gate=threading.Semaphore(3))
Policy(retry_on=ConnectionError, gate=lambda path: {"a": threading.Lock()}[path])


# Blocks


async def fetch_in_block() -> int:
    async for each in policy:
        async with each:
            assert_type(each.number, int)
            assert_type(each.previous_error, Exception | None)
            assert_type(each.time_left, float | None)
            return 1
    return 0


def load_in_block() -> int:
    value: int | None = None
    for each in policy:
        with each as nothing:
            assert_type(nothing, None)
            assert_type(each.number, int)
            assert_type(each.previous_error, Exception | None)
            assert_type(each.time_left, float | None)
            value = 1
    return value or 0


def closed_block() -> None:
    with contextlib.closing(iter(policy)) as attempts:
        for each in attempts:
            with each:
                assert_type(each.number, int)


async def closed_block_in_coroutine() -> None:
    async with contextlib.aclosing(aiter(policy)) as attempts:
        async for each in attempts:
            async with each:
                assert_type(each.number, int)
    async with await anext(aiter(policy)):
        pass


async def wrong_blocks() -> None:
    for each in policy:
        async with each:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue] - of a plain loop
            pass
    async for other in policy:
        with other:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue] - of an async loop
            pass


# A supervised function


@supervise(retry_on=ConnectionError)
async def fetch(url: str, *, size: int = 1) -> bytes:
    if size > 3:
        raise RetryAfter(2.5)
    if size > 2:
        raise GiveUp
    return url.encode()


async def double(number: int) -> float:
    return 2.0 * number


async def spell(number: float) -> str:
    return str(number)


@supervise(policy)
async def length(url: str) -> int:
    return len(url)


async def bare(number: int, text: str) -> str:
    return text * number


class Callable_:  # noqa: N801 - an object to call
    async def __call__(self, number: int) -> bool:
        return number > 0


async def functions() -> None:
    assert_type(await fetch("url", size=2), bytes)
    assert_type(await length("url"), int)
    assert_type(policy_of(fetch), Policy)
    policy_of(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no function
    assert_type(fetch.__name__, str)
    once = supervise(policy)(bare)
    assert_type(await once(1, "a"), str)
    assert_type(await once(1, text="a"), str)
    part = supervise(retry_on=OSError, max_retries=1)(functools.partial(bare, 2))
    assert_type(await part("text"), str)
    assert_type(await supervise(policy)(Callable_())(3), bool)
    plain: Callable[[str], Coroutine[object, None, int]] = length
    assert_type(await plain("url"), int)
    awaitable: Awaitable[int] = length("url")
    assert_type(await awaitable, int)
    await asyncio.create_task(coroutine_of(length("url")))


async def coroutine_of(call: Coroutine[object, None, int]) -> int:
    return await call


async def wrong_calls() -> None:
    await fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - arguments are checked
    await length()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - and counted


class Client:
    def __init__(self) -> None:
        self.size = 1

    @supervise(policy)
    async def get(self, url: str, *, times: int = 1) -> list[str]:
        return [url] * times

    async def post(self, url: str) -> str:
        return url


async def methods() -> None:
    client = Client()
    assert_type(await client.get("url", times=2), list[str])
    assert_type(await Client.get(client, "url", times=2), list[str])
    assert_type(policy_of(client.get), Policy)
    assert_type(policy_of(Client.get), Policy)
    assert_type(await supervise(policy)(client.post)("url"), str)
    part = functools.partial(client.get, times=2)
    assert_type(await part("url"), list[str])


# What went wrong


def errors(error: Exception) -> None:
    assert_type(verdict(error), Verdict | None)
    if (given_up := verdict(error)) is not None:
        assert_type(given_up.attempts, int)
        assert_type(given_up.elapsed, float)
        assert_type(given_up.reason, Reason)
        text: str = given_up
        print(text)  # noqa: T201
    if isinstance(error, AttemptTimeout | DeadlineExceeded):
        assert_type(error.seconds, float)
        timeout: TimeoutError = error
        print(timeout)  # noqa: T201


def reasons(reason: Reason) -> int:
    match reason:
        case Reason.EXHAUSTED:
            return 1
        case Reason.IRRECOVERABLE:
            return 2
        case Reason.DEADLINE:
            return 3
        case Reason.RETRY_AFTER_TOO_LONG:
            return 4
        case Reason.BUDGET:
            return 5
        case Reason.USED_UP:
            return 6
        case _:
            assert_never(reason)


# What happened


def on_event(event: Event) -> None:  # noqa: C901, PLR0912 - one case for each event
    match event:
        case (
            AttemptStarted(call=number, name=name, attempt=count) | AttemptFailed(call=number, name=name, attempt=count)
        ):
            assert_type((number, name, count), tuple[int, str, int])
        case GaveUp(reason=reason, attempts=count, elapsed=seconds, error=error):
            assert_type((reason, count, seconds, error), tuple[Reason, int, float, Exception])
        case Recovered(run=run, job=job):
            assert_type((run, job), tuple[int | None, int | None])
        case CallFinished(error=end):
            assert_type(end, BaseException | None)
        case RunStarted() | RunResumed():
            assert_type((event.run, event.name, event.tally), tuple[int, str, Tally])
            assert_type(event.known if isinstance(event, RunStarted) else None, int | None)
        case RunPaused(seconds=seconds, why=why):
            assert_type((seconds, why), tuple[float, str])
        case GroupPaused(group=group, seconds=seconds, why=why):
            assert_type((group, seconds, why), tuple[Hashable, float, str])
        case GroupResumed(group=group) | GroupStopped(group=group):
            assert_type(group, Hashable)
        case JobFinished(outcome=outcome, group=group):
            assert_type((outcome, group), tuple[Outcome[object, object], Hashable])
        case WorkerLost(worker=worker, jobs=jobs):
            assert_type((worker, jobs), tuple[str, int])
        case RunFinished(elapsed=elapsed, replayed=replayed):
            assert_type((elapsed, replayed), tuple[float, int | None])
        case RunStopped(why=stopped):
            assert_type(stopped, Stopped)
        case ChildStarted(supervisor=number, name=name, child=child):
            assert_type((number, name, child), tuple[int, str, str])
        case ChildExited(error=end) | ChildStopped(error=end):
            assert_type(end, BaseException | None)
        case ChildReady(child=child):
            assert_type(child, str)
        case ChildStalled(seconds=seconds):
            assert_type(seconds, float)
        case ChildRestarted(restarts=count):
            assert_type(count, int)
        case Escalated(error=exceeded):
            assert_type(exceeded, RestartsExceeded)
            assert_type((exceeded.child, exceeded.within), tuple[str, float])
            assert_type(exceeded.errors, tuple[BaseException, ...])
            assert_type(exceeded.max_restarts, int)
        case _:
            assert_never(event)


def listeners(kept: list[Event]) -> None:
    listen(on_event)
    with listen(kept.append) as nothing:
        assert_type(nothing, None)
    run_all(jobs(), listen=on_event)
    map_all(length, ["one"], listen=kept.append)
    listen(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - cannot be called


def asks() -> None:
    now = attempt()
    assert_type(now, Attempt)
    assert_type(now.number, int)
    assert_type(now.previous_error, Exception | None)
    assert_type(now.time_left, float | None)


# A batch


def jobs() -> Iterator[Coroutine[object, None, int]]:
    yield length("one")
    yield length("two")


async def async_jobs() -> AsyncIterator[Callable[[], Awaitable[int]]]:
    yield functools.partial(length, "one")
    yield lambda: length("two")


async def inputs() -> AsyncIterator[str]:
    yield "one"


async def batches() -> None:
    run = run_all([length("one"), length("two")])
    assert_type(run, Run[int])
    report = await run
    assert_type(report, Report[int])
    assert_type(report.values(), list[int])
    assert_type(report.succeeded, tuple[Success[int], ...])
    assert_type(report.failed, tuple[Failure, ...])
    assert_type(report.pending, tuple[Pending[int], ...])
    assert_type(report.to_dicts(), list[dict[str, object]])
    assert_type(report.summary(), str)
    assert_type((report.ok, report.stopped), tuple[bool, Stopped | None])
    assert_type(report.tally, Tally)
    assert_type(report.elapsed, float)
    assert_type(len(report), int)
    narrow(report[0])
    for outcome in report[1:]:
        narrow(outcome)
    assert_type((await run_all(jobs())).values(), list[int])
    assert_type((await run_all(async_jobs())).values(), list[int])
    run_all(
        jobs(),
        strategy="wait",
        limit=None,
        timeout=5,
        return_when="FIRST_EXCEPTION",
        progress=False,
        stop_on=(signal.SIGINT, signal.SIGTERM),
        name="lengths",
    )
    run_all(jobs(), progress={"leave": False, "mininterval": 5, "colour": "green"}, total=3, max_failures=20)
    run_all(jobs(), progress=print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no listener
    run_all(jobs(), progress={"ncols": "80"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - tqdm's types
    run_all(length("one"), length("two"))  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType] - no list
    run_all(jobs(), return_exceptions=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - it has no such keyword
    run_all(jobs(), strategy="join")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no such strategy


async def coroutines() -> None:
    assert_type(asyncio.run(run_all(jobs())), Report[int])
    assert_type(await asyncio.create_task(map_all(length, ["one"])), Report[int, str])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_all(jobs()))
        assert_type(task, asyncio.Task[Report[int]])
    coroutine: Coroutine[object, None, Report[int]] = run_all(jobs())
    coroutine.close()
    runs = run_all([run_all(jobs()), run_all(jobs())])
    assert_type((await runs).values(), list[Report[int]])


async def maps() -> None:
    overload = Overload(Budget(), when_exhausted="fail", first_pause=1, longest_pause=9.5, probes=3)
    assert_type(overload.budget, Budget | None)
    assert_type(run_all(jobs(), limit=Adaptive(start=5, maximum=50, minimum=2), overload=overload), Run[int])
    run = map_all(length, ["one", "two"], strategy="as_completed", limit=Adaptive(), overload=None)
    assert_type(run.tally.limit, int | None)
    run = map_all(length, ["one", "two"], strategy="as_completed", limit=3)
    assert_type(run, Run[int, str])
    report = await run
    assert_type(report, Report[int, str])
    assert_type(report.failed, tuple[Failure[str], ...])
    for outcome in report:
        assert_type(outcome.input, str)
        narrow_map(outcome)
    assert_type((await map_all(length, inputs())).values(), list[int])
    assert_type((await map_all(Client().get, ["one"])).values(), list[list[str]])
    map_all(length, ["one"], stop_on=[2, signal.SIGTERM])
    map_all(length, ["one"], journal="run.db")
    map_all(length, ["one"], journal=Path("run.db"))
    assert_type(map_all(length, ["one"], journal=Journal("run.db")), Run[int, str])
    assert_type(map_all(length, ["one"], group_by=len, limit_per_group=4), Run[int, str])
    map_all(length, inputs(), group_by=lambda text: text[0], limit_per_group=lambda group: 1 if group else None)
    map_all(length, ["one"], group_by=abs)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - of numbers
    assert_type(report.stopped_groups, tuple[Hashable, ...])
    map_all(length, ["one"], journal=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] - no path
    map_all(length, ["one"], stop_on=signal.SIGINT)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType] - one alone
    parsed = map_all(double, map_all(length, ["one"], limit=50), limit=4, group_by=abs)
    assert_type(parsed, Run[float, str])
    assert_type(await map_all(spell, parsed), Report[str, str])
    assert_type(map_all(double, run_all([length("one")])), Run[float])
    map_all(length, map_all(length, ["one"]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - not its values
    map_all(length, [1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - not its inputs


class Json:
    def dumps(self, value: object, /) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes, /) -> object:
        return json.loads(data)


def journals() -> None:
    journal = Journal(Path("run.db"), key=lambda item: str(item.id), version="3", codec=pickle)
    assert_type(journal.path, str)
    Journal("run.db", codec=json)
    Journal("run.db", codec=Json(), key=None)
    Journal("run.db", key=len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no str
    Journal("run.db", "v3")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue] - keywords only
    Journal("run.db", codec=str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no codec


async def streams() -> None:
    async with run_all(jobs()) as run:
        assert_type(run, Run[int])
        async for outcome in run:
            narrow(outcome)
            run.stop()
        tally(run.tally)
        assert_type(run.report, Report[int])
        assert_type(run.stopped_by, signal.Signals | None)
    async with map_all(length, ["one"]) as mapped:
        async for of_input in mapped:
            narrow_map(of_input)


def tally(counts: Tally) -> None:
    assert_type(counts.total, int | None)
    assert_type(counts.limit, int | None)
    assert_type(counts.succeeded + counts.failed + counts.pending + counts.running + counts.retries, int)
    assert_type(counts.replayed, int)


def narrow(outcome: Outcome[int]) -> int:
    if isinstance(outcome, Success):
        assert_type(outcome.value, int)
        assert_type(outcome.attempts, int)
        assert_type(outcome.replayed, bool)
        return outcome.value
    if isinstance(outcome, Failure):
        assert_type(outcome.error, BaseException)
        assert_type(outcome.reason, Reason | None)
        assert_type(outcome.elapsed, float)
        return outcome.attempts
    assert_type(outcome, Pending[int])
    assert_type(outcome.job, Callable[[], Awaitable[int]] | None)
    assert_type(outcome.started, bool)
    return outcome.index


def narrow_map(outcome: Outcome[int, str]) -> str:
    match outcome:
        case Success(index, value):
            assert_type(index, int)
            assert_type(value, int)
            return outcome.input
        case Failure(error=error):
            assert_type(error, BaseException)
            return outcome.input
        case Pending(input=text, name=name):
            assert_type(text, str)
            assert_type(name, str)
            return text
        case _:
            assert_never(outcome)


# A service


async def services() -> None:
    sup = Supervisor(strategy="rest_for_one", max_restarts=None, within=2, backoff=[0, 1], grace=1, name="web")
    async with sup as entered:
        assert_type(entered, Supervisor)
        child = sup.start(length, "url", restart="transient", name="length", grace=0.5)
        assert_type(child, Child)
        sup.start(functools.partial(fetch, size=2), "url")
        sup.start(Client().get, "url")
        sup.start(Callable_(), 3)
        sup.start(length, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - arguments are checked
        sup.start(length, "url", restart="ever")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no such type
        assert_type((child.name, child.restarts, child.since), tuple[str, int, float])
        text: str = child.state
        print(text)  # noqa: T201
        assert_type(child.last_error, BaseException | None)
        assert_type(sup.children(), tuple[Child, ...])
        sup.start(length, "url", ready=10.0, heartbeat=30)
        assert_type(await child.wait_ready(), None)
        assert_type(await child.wait(), object)
        assert_type(sup.is_healthy, bool)
        assert_type(sup.stopped_by, signal.Signals | None)
        assert_type(ready(), None)
        assert_type(alive(), None)
        await child.stop()
        await child.restart()
        await sup.wait()
        sup.stop()
    Supervisor(strategy="simple_one_for_one", reset_after=10, stop_on=(signal.SIGINT, signal.SIGTERM))
    Supervisor(strategy="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no such strategy
