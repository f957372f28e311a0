"""What is known after a run: outcomes, values, counts, attempts."""

import asyncio
import json
import traceback
from typing import Any

import pytest

from aiosupervise import Failure, Pending, Reason, Report, Run, Success, Tally, map_all, run_all, supervise

pytestmark = pytest.mark.looptime


async def divide(number: float) -> float:
    """A job that can fail."""
    await asyncio.sleep(number)
    return 1 / number


class Flaky:
    """A supervised function that succeeds at its third attempt."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self) -> str:
        """One call of three attempts."""
        left = iter([ConnectionError("1"), ConnectionError("2")])

        @supervise(retry_on=ConnectionError, backoff=[1])
        async def attempt() -> str:
            self.calls += 1
            if (error := next(left, None)) is not None:
                raise error
            return "done"

        return await attempt()


async def test_a_report_is_a_sequence_of_outcomes() -> None:
    """A report has a length, indexes, slices and an order, and gives the outcomes of each kind."""
    report = await map_all(divide, [1, 0, 2, 90, 90], limit=3, timeout=3)
    assert len(report) == 5
    assert report[0] == Success(0, 1.0, 1, 1.0, "divide-0", 1)
    assert report[-1] is report[4]
    assert report[1] == Failure(1, report.failed[0].error, 1, 0.0, None, "divide-1", 0)
    assert list(report) == [report[n] for n in range(5)]
    assert report[:2] == (report[0], report[1])
    assert [type(one) for one in report] == [Success, Failure, Success, Pending, Pending]
    assert report.succeeded == (report[0], report[2])
    assert report.failed == (report[1],)
    assert report.pending == (report[3], report[4])
    assert report[1] in report
    assert report.elapsed == 3
    assert repr(report) == "<Report: 2 succeeded, 1 failed, 2 pending, 0 retries, 3.00 s>"


async def test_the_outcomes_of_one_kind_are_found_once() -> None:
    """A loop that asks for them again and again is not quadratic."""
    report = await map_all(divide, [1, 0, 90], timeout=3)
    assert report.succeeded is report.succeeded
    assert report.failed is report.failed
    assert report.pending is report.pending


async def test_a_report_as_plain_dicts() -> None:
    """Each has the same keys in the same order, for pandas or JSON, and words and texts instead of objects."""

    @supervise(retry_on=ConnectionError, max_retries=1, backoff=[1])
    async def job(number: int) -> int:
        if number == 1:
            raise ConnectionError("refused")
        await asyncio.sleep(number)
        return 10 * number

    report = await map_all(job, [0, 1, 90, 2], limit=2, timeout=0.5)
    rows = report.to_dicts()
    assert len({tuple(row) for row in rows}) == 1
    assert json.loads(json.dumps(rows)) == rows
    nothing = ("value", "error_type", "error", "reason", "attempts", "elapsed")
    common: dict[str, object] = {**dict.fromkeys(nothing), "replayed": False}
    assert rows == [
        {**common, "index": 0, "name": "job-0", "input": 0, "status": "succeeded", "value": 0, "attempts": 1}
        | {"elapsed": 0, "started": True},
        {**common, "index": 1, "name": "job-1", "input": 1, "status": "pending", "started": True},
        {**common, "index": 2, "name": "job-2", "input": 90, "status": "pending", "started": True},
        {**common, "index": 3, "name": "job-3", "input": 2, "status": "pending", "started": False},
    ]
    (failed,) = (await map_all(job, [1])).to_dicts()
    assert failed == common | {
        "index": 0,
        "name": "job-0",
        "input": 1,
        "status": "failed",
        "error_type": "ConnectionError",
        "error": "refused",
        "reason": "retries exhausted",
        "attempts": 2,
        "elapsed": 1,
        "started": True,
    }


async def test_a_dict_holds_no_error_and_copies_nothing() -> None:
    """dataclasses.asdict copies an error of aiohttp deeply, which fails; and an error holds the frames of its job."""

    class AwkwardError(Exception):
        """An error that can neither be copied nor read."""

        def __str__(self) -> str:
            raise TypeError("no text")

        def __deepcopy__(self, _: object) -> None:
            raise AssertionError

    async def job(thing: object) -> object:
        if thing is None:
            raise AwkwardError
        return thing

    thing = object()
    succeeded, failed = (await map_all(job, [thing, None])).to_dicts()
    assert succeeded["value"] is succeeded["input"] is thing
    assert failed["error"] == "a value of type AwkwardError that cannot be read"
    assert failed["reason"] is None
    assert not any(isinstance(value, BaseException) for value in failed.values())


class NamelessType(type):
    """A class of classes whose name cannot be read."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise LookupError


class NamelessError(Exception, metaclass=NamelessType):
    """An error of such a class."""


def test_a_dict_of_an_error_whose_class_raises() -> None:
    """Its name is read without asking it."""
    report: Report[None] = Report([Failure(0, NamelessError("x"), 1, 0.5, None)], Tally(1, None, failed=1), 0.5)
    assert [(row["error_type"], row["error"]) for row in report.to_dicts()] == [("NamelessError", "x")]


class NamelessGroup(metaclass=NamelessType):
    """A group of such a class, which cannot be shown either."""

    def __str__(self) -> str:
        raise LookupError


async def test_a_group_that_cannot_be_shown() -> None:
    """The summary and the error of missing values name its type."""
    tally = Tally(1, None, pending=1)
    report: Report[None] = Report([Pending(0, None, started=False)], tally, 0.5, None, [NamelessGroup()])
    shown = "a value of type NamelessGroup that cannot be read"
    assert f"1 group stayed down: {shown}" in report.summary()
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    assert shown in str(caught.value.exceptions[0])


async def test_without_map_all_there_is_no_input() -> None:
    """Under run_all an outcome's input is None, whatever became of the job."""
    report = await run_all([lambda: divide(1), lambda: divide(0), lambda: divide(9), lambda: divide(1)], timeout=3)
    assert {type(outcome) for outcome in report} == {Success, Failure, Pending}
    assert [outcome.input for outcome in report] == [None] * 4


async def test_values_are_all_or_an_error() -> None:
    """values() gives the plain values in the report's order, if every job succeeded."""
    assert (await map_all(divide, [2, 1], strategy="gather")).values() == [0.5, 1]
    assert (await map_all(divide, [2, 1], strategy="as_completed")).values() == [1, 0.5]


async def test_partial_values_are_an_exception_group() -> None:
    """If anything failed or is pending: all errors, and one RuntimeError that counts the pending."""
    report = await map_all(divide, [1, 0, 90, 90], timeout=3)
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    zero, pending = caught.value.exceptions
    assert zero is report.failed[0].error
    assert isinstance(pending, RuntimeError)
    assert "2 of 4 jobs are pending" in str(pending)


async def test_values_with_a_cancelled_job_are_a_base_exception_group() -> None:
    """A CancelledError among the failures makes it a BaseExceptionGroup."""

    async def job() -> None:
        raise asyncio.CancelledError

    report = await run_all([job])
    with pytest.raises(BaseExceptionGroup) as caught:
        report.values()
    assert not isinstance(caught.value, Exception)
    assert isinstance(caught.value.exceptions[0], asyncio.CancelledError)


async def test_a_failure_holds_the_jobs_own_error() -> None:
    """The same object, and no frame of the library in its traceback."""
    mine = KeyError("mine")

    async def job() -> None:
        raise mine

    async def cancelled() -> None:
        raise asyncio.CancelledError

    report = await run_all([job(), cancelled()])
    failure, cancelled_one = report.failed
    assert failure.error is mine
    assert (failure.reason, failure.attempts) == (None, 1)
    for error, name in ((failure.error, "job"), (cancelled_one.error, "cancelled")):
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == [name]


async def test_a_failure_tells_why_a_policy_gave_up() -> None:
    """The reason and the attempts of the supervised call are in the outcome."""

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=[1])
    async def job() -> None:
        raise ConnectionError

    report = await run_all([job])
    (failure,) = report.failed
    assert (failure.reason, failure.attempts, failure.elapsed) == (Reason.EXHAUSTED, 3, 2)
    assert report.tally.retries == 2


async def child_task(flaky: Flaky) -> str:
    """The call in a task that the job starts."""
    return await asyncio.create_task(flaky.call())


async def task_group(flaky: Flaky) -> str:
    """The call in a task group of the job."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(flaky.call())
    return task.result()


async def nested_run(flaky: Flaky) -> str:
    """The call in a run inside of the job."""
    (outcome,) = await run_all([flaky.call])
    assert isinstance(outcome, Success)
    assert outcome.attempts == 3
    return outcome.value


@pytest.mark.parametrize("way", [Flaky.call, child_task, task_group, nested_run])
async def test_attempts_are_counted_through_to_the_outcome(way: Any) -> None:
    """A job whose supervised call needed three attempts says 3, wherever in the job the call was made."""
    flaky = Flaky()
    report = await map_all(way, [flaky, flaky])
    assert [(one.value, one.attempts) for one in report.succeeded] == [("done", 3), ("done", 3)]
    assert flaky.calls == 6
    assert report.tally.retries == 4


async def test_attempts_add_up_over_the_calls_of_a_job() -> None:
    """`attempts` is 1 plus all retries made in the job; the retries of others do not count."""
    flaky = Flaky()

    async def job(calls: int) -> None:
        for _ in range(calls):
            await flaky.call()

    report = await map_all(job, [0, 1, 2])
    assert [one.attempts for one in report.succeeded] == [1, 3, 5]


async def test_a_report_can_be_had_at_any_time() -> None:
    """Before, during and after a run, `run.report` holds what is known; an earlier report does not change."""
    run = map_all(divide, [1, 2])
    assert isinstance(run.report, Report)
    assert (len(run.report), run.report.elapsed) == (0, 0)
    assert run.report.tally == Tally(total=2, limit=100)
    task = asyncio.ensure_future(run)
    await asyncio.sleep(1.5)
    early = run.report
    assert (len(early), early.tally.running, early.elapsed) == (1, 1, 1.5)
    await task
    assert (len(early), early.tally.running, len(run.report)) == (1, 1, 2)
    assert run.report.elapsed == 2


@pytest.mark.parametrize(("collect", "total"), [(list, 2), (iter, None)])
async def test_the_total_is_known_if_the_source_has_a_length(collect: Any, total: int | None) -> None:
    """The tally's total is None while it is unknown."""
    run = map_all(divide, collect([1, 2]))
    assert run.tally.total == total
    await run
    assert run.tally == Tally(total=2, limit=100, succeeded=2)


async def test_elapsed_counts_from_the_start_to_the_end() -> None:
    """However late a run starts, and however late its report is asked for, elapsed is the time that it took."""
    await asyncio.sleep(3)
    run = map_all(divide, [2, 1, 0], limit=1)
    report = await run
    assert report.elapsed == 3
    assert [outcome.elapsed for outcome in report if not isinstance(outcome, Pending)] == [2, 1, 0]
    await asyncio.sleep(5)
    assert run.report.elapsed == 3


async def test_a_run_tells_its_state_in_words() -> None:
    """The repr of a run names it, says where it stands, and counts."""
    run = map_all(divide, [0, 1])
    assert repr(run) == "<Run divide: not started; 0 running, 0 succeeded, 0 failed, 0 pending>"
    async with run:
        await asyncio.sleep(0.5)
        assert repr(run) == "<Run divide: streaming; 1 running, 0 succeeded, 1 failed, 0 pending>"
    assert repr(run) == "<Run divide: ended; 0 running, 0 succeeded, 1 failed, 1 pending>"
    other: Run[None] = run_all([])
    task = asyncio.ensure_future(other)
    await asyncio.sleep(0)
    assert repr(other).startswith("<Run run_all: ")
    await task


def test_outcomes_are_made_by_hand_too() -> None:
    """Tests of users' own code make outcomes without a run: name and input may be left out."""
    assert Success(0, "value", 1, 0.5) == Success(0, "value", 1, 0.5, "", None)


def test_the_error_about_pending_jobs_without_a_reason() -> None:
    """A job that was refused is pending in a run that nothing stopped, so no reason follows."""
    report: Report[int] = Report([Pending(0, None, started=False)], Tally(1, 1, pending=1), 0.0, None)
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    (error,) = caught.value.exceptions
    assert str(error) == "1 of 1 jobs are pending, as the run ended before them"


@pytest.mark.parametrize(("count", "end"), [(10, "8, 9"), (11, "8, 9, ...")])
def test_the_error_about_pending_jobs_names_ten_groups(count: int, end: str) -> None:
    """An ellipsis replaces the other groups."""
    tally = Tally(1, 1, pending=1)
    report: Report[int] = Report([Pending(0, None, started=False)], tally, 0.0, None, range(count))
    with pytest.raises(ExceptionGroup) as caught:
        report.values()
    (error,) = caught.value.exceptions
    why = f"the services of some groups stayed down: 0, 1, 2, 3, 4, 5, 6, 7, {end}"
    assert str(error) == f"1 of 1 jobs are pending, as {why}"
