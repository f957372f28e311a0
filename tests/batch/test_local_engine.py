"""The local engine: what it does with jobs that come too late, are refused, or end in the turn of an early end."""

import asyncio
import itertools
import time
from collections.abc import Generator
from typing import Any, cast

import pytest

from aiosupervise import Pending, Success, Tally, map_all, run_all, supervise
from aiosupervise._batch.jobs import GivenJobs, run_job
from aiosupervise._batch.local import LocalEngine, LocalRun, _has_begun
from aiosupervise._batch.protocol import EngineConfig, EngineContext
from aiosupervise._call.tasks import clock_of
from aiosupervise._events.emit import Scope

from .service import POLICY, Service, down, empty

pytestmark = pytest.mark.looptime


# Results that are there


async def test_a_result_that_comes_in_the_turn_after_the_end_is_handed_over() -> None:
    """A job that is woken in the turn of the end takes its step before it is cancelled, whatever comes first."""
    woken = asyncio.get_running_loop().create_future()

    async def first() -> str:
        task = asyncio.current_task()
        assert task is not None
        # This callback comes after the one that ends the run, in the same turn.
        task.add_done_callback(lambda _: woken.set_result("second"))
        return "first"

    async def second() -> Any:
        return await woken

    report = await run_all([first, second], strategy="wait", return_when="FIRST_COMPLETED")
    assert [outcome.value for outcome in report if isinstance(outcome, Success)] == ["first", "second"]


async def test_a_future_that_is_done_before_its_job_is_cancelled_keeps_its_result() -> None:
    """Given as a job it is cancelled itself, which does nothing to one that is done by then."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def first() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: loop.call_soon(future.set_result, "second"))
        return "first"

    jobs: list[Any] = [first, future]
    report = await run_all(jobs, strategy="wait", return_when="FIRST_COMPLETED")
    assert [outcome.value for outcome in report if isinstance(outcome, Success)] == ["first", "second"]


async def test_a_future_that_was_cancelled_before_its_job_is_cancelled_is_a_failure() -> None:
    """The run has not cancelled it, so its job ended by itself."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def first() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: loop.call_soon(future.cancel))
        return "first"

    jobs: list[Any] = [first, future]
    report = await run_all(jobs, strategy="wait", return_when="FIRST_COMPLETED")
    assert [type(failure.error) for failure in report.failed] == [asyncio.CancelledError]
    assert report.pending == ()


async def test_a_future_that_cannot_be_asked_for_its_loop_is_cancelled_through_its_task() -> None:
    """A user's own kind of future keeps no other job from being cancelled."""

    class OwnFuture(asyncio.Future[None]):
        def __init__(self) -> None:
            super().__init__()
            self.asked = 0

        def get_loop(self) -> asyncio.AbstractEventLoop:
            self.asked += 1
            if self.asked > 2:  # the engine and the task that awaits it ask first
                raise LookupError
            return super().get_loop()

    jobs: list[Any] = [OwnFuture(), asyncio.Event().wait]
    report = await run_all(jobs, timeout=1, name="own")
    assert [(pending.name, pending.started) for pending in report.pending] == [("own-0", True), ("own-1", True)]


async def test_an_awaitable_that_is_not_a_future_is_cancelled_through_its_task() -> None:
    """Only a real future is cancelled directly, even if an awaitable has methods with the same names."""

    class Request:
        def get_loop(self) -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        def __await__(self) -> Generator[Any, None, None]:
            return asyncio.sleep(5).__await__()

    jobs: list[Any] = [Request(), asyncio.Event().wait]
    report = await run_all(jobs, timeout=1)
    assert [pending.started for pending in report.pending] == [True, True]
    assert report.elapsed == 1


async def test_a_future_whose_get_loop_raises_is_refused() -> None:
    """A task that awaits it could be neither stepped nor cancelled; the error ends the run, as that of `gather`."""

    class OwnFuture(asyncio.Future[None]):
        def get_loop(self) -> asyncio.AbstractEventLoop:
            raise LookupError("no loop")

    jobs: list[Any] = [OwnFuture(), asyncio.Event().wait]
    with pytest.raises(LookupError, match="no loop"):
        await run_all(jobs, timeout=1)


# Time


def test_the_clock_is_that_of_the_loop() -> None:
    """A loop with a clock of its own, such as a virtual one, rules; asyncio's loops all have the same."""

    class Virtual(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return 42.0

    virtual, own = Virtual(), asyncio.SelectorEventLoop()
    assert clock_of(virtual)() == 42.0
    assert clock_of(own) is time.monotonic
    virtual.close()
    own.close()


# Jobs that come too late


def running_engine(*, is_loop_shutting_down: bool) -> tuple[LocalRun, list[Any]]:
    """The engine of a run of its own, and the outcomes that it records."""
    jobs = GivenJobs[Any](None)
    outcomes: list[Any] = []
    tally = Tally(None, 10)
    context: EngineContext[Any, Any] = EngineContext(
        EngineConfig(run_job, "late", 10, None),
        jobs,
        tally,
        Scope(0, "late", tally, listener=None, enclosing=None),
        record=outcomes.append,
        wake=lambda: None,
        stop=lambda _: None,
        fail=lambda _: None,
        is_loop_shutting_down=lambda: is_loop_shutting_down,
    )
    return cast("LocalRun", LocalEngine(jobs).start(context)), outcomes


@pytest.mark.parametrize(
    ("is_loop_shutting_down", "cancels_before", "cancels"), [(False, 0, 1), (False, 1, 2), (True, 0, 1), (True, 1, 1)]
)
async def test_a_task_that_comes_after_the_cancel(
    cancels_before: int, cancels: int, *, is_loop_shutting_down: bool
) -> None:
    """It is cancelled too, unless the loop, which is shutting down, has done so: a second one would cut it short."""
    engine, outcomes = running_engine(is_loop_shutting_down=is_loop_shutting_down)
    engine.cancel(already_cancelled=True)
    task = asyncio.create_task(asyncio.sleep(10))
    for _ in range(cancels_before):
        task.cancel()
    engine.skip(task, 3)
    assert task.cancelling() == cancels
    await asyncio.sleep(1)
    (outcome,) = outcomes
    assert isinstance(outcome, Pending)
    assert (outcome.index, outcome.started) == (3, True)


def test_whether_a_job_has_begun_is_assumed_of_what_cannot_be_asked() -> None:
    """A proxy of a coroutine may raise: it is taken for one that has begun, and is given time to clean up."""
    assert _has_begun(cast("Any", object()))


def test_only_a_coroutine_is_given_as_one() -> None:
    """Of anything else, hashable or not, nothing is looked up among the coroutines that run."""
    given = GivenJobs[Any](None).given
    assert given([]) is None
    assert given(print) is None


class Proxy:
    """Raises when it is asked for its class."""

    __class__ = property(lambda _: 1 / 0)


class CallableProxy(Proxy):
    """Can be called all the same."""

    async def __call__(self) -> None:
        """Do nothing."""


async def test_a_pending_job_that_cannot_be_asked_what_it_is_is_kept_if_it_can_be_called() -> None:
    """What can be called can be run again."""
    again = CallableProxy()
    jobs: list[Any] = [asyncio.Event().wait, again, Proxy()]
    report = await run_all(jobs, limit=1, timeout=1)
    assert [pending.started for pending in report.pending] == [True, False, False]
    assert report.pending[1].job is again
    assert report.pending[2].job is None


# Jobs that are refused


class RefusalError(Exception):
    """No task is made."""


def refuse_third_job() -> None:
    """Make the task factory of the loop fail for the third job."""
    jobs = itertools.count()

    def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        if coroutine.__name__ != "_pump" and next(jobs) == 2:
            raise RefusalError
        return asyncio.Task(coroutine, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(cast("Any", make_task))


async def test_a_job_without_a_task_is_pending_and_can_be_run_again() -> None:
    """It has not started, and keeps its input."""
    refuse_third_job()
    service = Service()
    run = map_all(service, range(3))
    with pytest.raises(RefusalError):
        await run
    (pending,) = run.report.pending
    assert (pending.index, pending.input, pending.started) == (2, 2, False)
    assert pending.job is not None
    assert await pending.job() == 2


async def test_a_probe_without_a_task_makes_room_for_the_next() -> None:
    """Nobody waits for the answer of a job that could not be started: the next in the queue is the probe at once."""
    refuse_third_job()
    service = Service(script={0: [down()]})
    run = map_all(supervise(POLICY)(service), range(3), limit=2, overload=empty(), listen=None)
    with pytest.raises(RefusalError):
        await run
    assert run.report.elapsed < 1
    assert [type(outcome) for outcome in run.report] == [Success, Success, Pending]
