"""Chunks on the driver: how large they are, when they are sent, and what becomes of their jobs."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest
from distributed import KilledWorker

from aiosupervise import Failure, Pending, Success, WorkerLost
from aiosupervise._events.outcomes import Stopped, Tally
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask.chunk_scheduler import ChunkScheduler
from aiosupervise.integrations._remote.chunk import Chunk, size_of_next
from aiosupervise.integrations._remote.chunk_builder import _LINGER, ChunkBuilder
from aiosupervise.integrations._remote.messages import ChunkResult, Phase
from aiosupervise.integrations._remote.outcome_recorder import OutcomeRecorder
from aiosupervise.integrations._remote.serialization import (
    ErrorDescription,
    outcome_payload,
    pending_payload,
    serialize,
)

from . import dask_jobs as jobs

pytestmark = pytest.mark.looptime
MEGABYTE = 1_000_000
DONE = outcome_payload(0, Success(0, "value", 1, 1.0, "job"))


def context(*, limit: int | None = None, total: int | None = None) -> Any:
    """A run, as far as its engine needs it."""
    return Mock(
        config=EngineConfig(jobs.double, "double", limit, None),
        tally=Tally(total, limit),
        job_name=lambda item, index: f"{item}-{index}",
        pending=lambda item, index, started: Pending(index, None, started, f"{item}-{index}", item),
    )


def outcomes(run: Any) -> list[Any]:
    """The outcomes that were recorded."""
    return [call.args[0] for call in run.record.call_args_list]


def filled(*inputs: str, key: str = "key") -> Chunk[str]:
    """A chunk of these inputs, with indices from 10 on."""
    chunk: Chunk[str] = Chunk(key, len(inputs))
    for index, text in enumerate(inputs, start=10):
        chunk.add(text.encode(), index, text)
    return chunk


# A chunk.


def test_a_chunk_is_full_after_its_size_or_a_megabyte() -> None:
    """Dask warns of ten times as much in one task."""
    chunk: Chunk[str] = Chunk("key", 9)
    chunk.add(b"a", 0, "a")
    assert chunk.room == 8
    chunk.add(bytes(MEGABYTE - 2), 1, "b")
    assert chunk.room == 7
    chunk.add(b"c", 2, "c")
    assert chunk.room == 0
    small: Chunk[str] = Chunk("key", 1)
    small.add(b"a", 0, "a")
    assert small.room == 0


def test_only_unfinished_jobs_are_retried_alone() -> None:
    """The new chunk leaves out the jobs that have an outcome; the others may have started before."""
    chunk = filled("a", "b", "c")
    chunk.worker = "tcp://gone"
    del chunk.jobs[1]
    alone = chunk.isolate()
    assert alone.inputs == [b"a", b"c"]
    assert alone.jobs == {0: (10, "a"), 1: (12, "c")}
    assert (alone.key, alone.worker, alone.room) == ("key-alone", "tcp://gone", 0)
    assert (alone.is_isolated, alone.restarted, alone.may_have_started) == (True, True, True)


def test_a_chunk_is_drained_in_the_order_of_its_inputs() -> None:
    """And then has no unfinished job."""
    chunk = filled("a", "b", "c")
    chunk.jobs = dict(reversed(chunk.jobs.items()))
    assert chunk.drain() == [(10, "a"), (11, "b"), (12, "c")]
    assert chunk.drain() == []


@pytest.mark.parametrize(
    ("state", "may_have"),
    [
        ({}, False),
        ({"is_sent": True}, True),
        ({"is_sent": True, "is_withdrawn": True}, False),
        ({"is_sent": True, "is_withdrawn": True, "worker": "tcp://a"}, True),
        ({"is_sent": True, "is_withdrawn": True, "restarted": True}, True),
    ],
)
def test_a_job_that_was_sent_may_have_started(state: dict[str, Any], *, may_have: bool) -> None:
    """Unless every worker denied having its chunk, so that it could be withdrawn."""
    chunk = filled("a")
    for name, value in state.items():
        setattr(chunk, name, value)
    assert chunk.may_have_started is may_have


@pytest.mark.parametrize(
    ("given", "total", "threads", "largest", "size"),
    [
        (0, None, 2, 1000, 62),  # small ones first
        (500, None, 2, 1000, 62),
        (501, None, 2, 1000, 124),
        (4 * 501, None, 2, 1000, 992),
        (10**9, None, 2, 1000, 992),
        (0, None, 2, 10, 1),
        (10**9, None, 1, 1, 1),
        (0, 40_000, 2, 1000, 1000),
        (0, 100, 2, 1000, 25),
        (60, 100, 2, 1000, 10),  # small ones last
        (99, 100, 2, 1000, 1),
        (100, 100, 2, 1000, 1),
    ],
)
def test_the_size_of_the_next_chunk(given: int, total: int | None, threads: int, largest: int, size: int) -> None:
    """Small chunks at one end give every worker a share."""
    assert size_of_next(given, total, threads, largest) == size


# The builder.


async def test_a_chunk_is_delivered_when_it_is_full() -> None:
    """Each has a key of its own, and the size that was due when it began."""
    delivered: list[Chunk[str]] = []
    builder: ChunkBuilder[str] = ChunkBuilder("run", 8, 1000, delivered.append)
    builder.threads = 2
    for index, item in enumerate("abcd"):
        builder.add(item, index)
    assert [(chunk.key, list(chunk.jobs.values())) for chunk in delivered] == [
        ("run-1", [(0, "a"), (1, "b")]),
        ("run-2", [(2, "c")]),
        ("run-3", [(3, "d")]),
    ]
    assert builder.filling is None
    assert builder.next_size() == 1
    await asyncio.sleep(1)
    assert len(delivered) == 3


async def test_chunks_become_smaller_towards_the_end_of_a_source() -> None:
    """The remaining inputs are shared among the threads; until the workers are known, one thread is assumed."""
    builder: ChunkBuilder[str] = ChunkBuilder("run", 10, 1000, lambda _: None)
    sizes = []
    for index in range(6):
        sizes.append(builder.next_size())
        builder.add("a", index)
    assert sizes == [5, 4, 4, 3, 3, 2]
    builder.take()


async def test_a_chunk_does_not_wait_long_for_more_inputs() -> None:
    """The time counts from its first one; what is taken is not delivered."""
    delivered: list[Chunk[str]] = []
    builder: ChunkBuilder[str] = ChunkBuilder("run", 1000, 1000, delivered.append)
    builder.add("a", 0)
    await asyncio.sleep(0.9 * _LINGER)
    builder.add("b", 1)
    assert delivered == []
    await asyncio.sleep(0.2 * _LINGER)
    assert [len(chunk.jobs) for chunk in delivered] == [2]
    builder.add("c", 2)
    taken = builder.take()
    assert taken is not None
    assert (list(taken.jobs), builder.take(), builder.filling) == ([0], None, None)
    builder.flush()
    await asyncio.sleep(2 * _LINGER)
    assert len(delivered) == 1


async def test_an_input_that_cannot_be_pickled_is_not_in_the_chunk() -> None:
    """The error has its number; the ones before it are sent."""
    delivered: list[Chunk[Any]] = []
    builder: ChunkBuilder[Any] = ChunkBuilder("run", 10, 1000, delivered.append)
    builder.add("a", 0)
    with pytest.raises(TypeError, match="input 1 cannot be pickled, so it cannot be sent to a worker"):
        builder.add(asyncio.get_running_loop(), 1)
    builder.flush()
    assert [list(chunk.jobs.values()) for chunk in delivered] == [[(0, "a")]]


# The recorder.


def test_the_first_outcome_of_a_job_counts() -> None:
    """It may come with polls and with the result, from one worker or two."""
    run, chunk = context(), filled("a", "b")
    recorder: OutcomeRecorder[Any, Any] = OutcomeRecorder(run)
    recorder.unfinished = 2
    first = outcome_payload(0, Success(0, "first", 3, 4.0, "job"))
    recorder.receive(chunk, "tcp://a", [first])
    recorder.receive(chunk, "tcp://a", [outcome_payload(0, Success(0, "again", 1, 1.0, "job"))])
    assert outcomes(run) == [Success(10, "first", 3, 4.0, "a-10", "a")]
    assert (recorder.unfinished, run.tally.retries, chunk.worker) == (1, 2, "tcp://a")
    run.scope.emit.assert_not_called()


def test_a_chunk_on_a_second_worker_was_lost_by_the_first() -> None:
    """The event has the number of unfinished jobs; those that are pending there may have started before."""
    run, chunk = context(), filled("a", "b")
    recorder: OutcomeRecorder[Any, Any] = OutcomeRecorder(run)
    recorder.receive(chunk, "tcp://a", [])
    recorder.receive(chunk, "tcp://b", [pending_payload(0), pending_payload(1)])
    run.scope.emit.assert_called_once_with(WorkerLost, "tcp://a", 2)
    assert [outcome.started for outcome in outcomes(run)] == [True, True]
    recorder.receive(chunk, "tcp://c", [])
    run.scope.emit.assert_called_once()


def test_each_kind_of_payload_becomes_its_outcome() -> None:
    """It has the job's index, input and name, which come from the driver, not from the payload."""
    run, chunk = context(), filled(*"abcd")
    recorder: OutcomeRecorder[Any, Any] = OutcomeRecorder(run)
    payloads = [
        outcome_payload(0, Success(0, None, 3, 1.0, "job")),
        outcome_payload(1, Failure(0, LookupError("x"), 4, 2.0, None, "job", None)),
        outcome_payload(2, Pending(0, None, started=True)),
        pending_payload(3),
    ]
    recorder.receive(chunk, "tcp://a", payloads)
    success, failure, begun, unbegun = outcomes(run)
    assert success == Success(10, None, 3, 1.0, "a-10", "a")
    assert (failure.index, failure.attempts, failure.elapsed, failure.name, failure.input) == (
        11,
        4,
        2.0,
        "b-11",
        "b",
    )
    assert "raised on the worker tcp://a" in failure.error.__notes__[-1]
    assert [(outcome.index, outcome.started, outcome.input) for outcome in (begun, unbegun)] == [
        (12, True, "c"),
        (13, False, "d"),
    ]
    assert (recorder.unfinished, run.tally.retries) == (-4, 5)


def test_a_result_that_cannot_be_unpickled_is_a_failure() -> None:
    """With the attempts and the seconds of the job."""
    run, chunk = context(), filled("a")
    OutcomeRecorder[Any, Any](run).receive(chunk, "tcp://a", [(0, b"no pickle", None, 2, 3.0, None, True)])
    (failure,) = outcomes(run)
    assert isinstance(failure, Failure)
    assert (failure.attempts, failure.elapsed, failure.reason) == (2, 3.0, None)
    assert "cannot be unpickled here" in str(failure.error)


def test_a_signal_while_an_error_is_unpickled_loses_no_outcome() -> None:
    """The run fails with the signal, and the error is unpickled again."""
    run, chunk, signal = context(), filled("a"), KeyboardInterrupt()
    jobs.signals.append(signal)
    description = ErrorDescription("LookupError", "x", "the traceback", ())
    payload = (0, serialize(jobs.Interrupted()), description, 2, 3.0, None, True)
    OutcomeRecorder[Any, Any](run).receive(chunk, "tcp://a", [payload])
    (failure,) = outcomes(run)
    assert (failure.index, failure.input, failure.name, failure.attempts) == (10, "a", "a-10", 2)
    assert "raised on the worker tcp://a" in failure.error.__notes__[-1]
    run.fail.assert_called_once_with(signal)


# The scheduler.


async def scheduler(*, limit: int | None = None, total: int | None = None, threads: int = 1, largest: int = 10) -> Any:
    """A chunk scheduler that sends nothing: its client never returns a result."""
    made: Any = ChunkScheduler(context(limit=limit, total=total), "id", largest)
    made.builder.threads = threads
    made.open(SimpleNamespace(status="running", submit=Mock(side_effect=lambda *_, **__: Future())))
    return made


class Future(asyncio.Future[Any]):
    """A future of Dask's."""

    release = Mock()


@pytest.mark.parametrize(
    ("settings", "taken", "slots"),
    [
        ({}, 0, 1),  # the first chunks are small
        ({"total": 100}, 0, 10),  # a whole chunk
        ({"total": 100}, 20, 10),
        ({"total": 100}, 21, 0),  # three chunks for each thread
        ({"total": 100, "threads": 2}, 50, 10),
        ({"total": 100, "threads": 2}, 51, 0),
        ({"total": 1000, "limit": 100}, 190, 10),  # or twice the limit
        ({"total": 1000, "limit": 100}, 191, 0),
        ({"total": 1000, "limit": 1}, 20, 10),
        ({"total": 1000, "limit": 1}, 21, 0),
    ],
)
async def test_slots_for_whole_chunks_are_free(settings: dict[str, Any], taken: int, slots: int) -> None:
    """A few chunks for each thread, or twice the limit: a worker with small chunks can reach its limit too."""
    assert (await scheduler(**settings)).free_slots(taken) == slots


async def test_a_chunk_that_is_being_filled_is_filled_up() -> None:
    """Whatever the size of the next one; but not beyond the slots."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    assert (jobs_of.free_slots(1), jobs_of.free_slots(28), jobs_of.free_slots(30)) == (9, 2, 0)
    jobs_of.stop(Phase.CANCELLED)
    await jobs_of.close()


@pytest.mark.parametrize(("limit", "chunks"), [(1, 3), (10, 20)])
async def test_a_source_that_fills_no_chunk_cannot_send_more_than_these(limit: int, chunks: int) -> None:
    """Three for each thread, or twice the limit."""
    jobs_of = await scheduler(limit=limit, threads=1)
    for index in range(chunks):
        assert jobs_of.free_slots(index) > 0
        jobs_of.add("a", index)
        jobs_of.builder.flush()
    assert jobs_of.free_slots(chunks) == 0
    await cancelled(jobs_of)


async def cancelled(jobs_of: Any) -> None:
    """End the tasks that wait for results."""
    for task in list(jobs_of._tasks):
        task.cancel()
    await asyncio.sleep(0.1)
    assert not jobs_of._tasks


async def failed_with(jobs_of: Any, error: BaseException, count: int = 2) -> None:
    """Send a chunk of this many jobs, whose future then has this error."""
    for index in range(count):
        jobs_of.add("a", index)
    jobs_of.builder.flush()
    await asyncio.sleep(0.001)
    (future,) = jobs_of._futures.values()
    future.set_exception(error)
    await asyncio.sleep(0.001)


async def sent_chunks(jobs_of: Any, count: int) -> list[Any]:
    """Send this many chunks of one job each, and return their futures."""
    for index in range(count):
        jobs_of.add("a", index)
        jobs_of.builder.flush()
    await asyncio.sleep(0.001)
    return list(jobs_of._futures.values())


def killed() -> KilledWorker:
    """The error of a task whose workers died too often."""
    return KilledWorker("key", SimpleNamespace(address="tcp://gone"), 3)  # type: ignore[arg-type]  # all it needs


async def test_a_chunk_whose_workers_died_is_retried_alone_once() -> None:
    """Nothing is added or sent meanwhile; if its worker dies again, its jobs have failed."""
    jobs_of = await scheduler(total=100)
    await failed_with(jobs_of, killed())
    assert [chunk.is_isolated for chunk in jobs_of._sent.values()] == [True]
    assert jobs_of.free_slots(0) == 0
    jobs_of._schedule(filled("b", key="later"))
    assert list(jobs_of._sent) == ["double-id-1-alone"]
    (future,) = jobs_of._futures.values()
    future.set_exception(killed())
    await asyncio.sleep(0.001)
    assert [type(outcome.error) for outcome in outcomes(jobs_of.context)] == [KilledWorker] * 2
    assert list(jobs_of._sent) == ["later"]
    assert jobs_of.free_slots(0) == 10
    await cancelled(jobs_of)


async def test_a_chunk_that_is_to_be_retried_alone_waits_for_the_chunks_on_the_cluster() -> None:
    """No other chunk is sent in the meantime."""
    jobs_of = await scheduler(total=100)
    first, second = await sent_chunks(jobs_of, 2)
    first.set_exception(killed())
    await asyncio.sleep(0.001)
    assert jobs_of.free_slots(0) == 0
    jobs_of._schedule(filled("b", key="later"))
    assert list(jobs_of._sent) == ["double-id-2"]
    second.set_result(ChunkResult("tcp://a", [DONE], "", ""))
    await asyncio.sleep(0.001)
    assert list(jobs_of._sent) == ["double-id-1-alone"]
    jobs_of.stop(Phase.CANCELLED)
    await cancelled(jobs_of)


async def test_a_lost_chunk_whose_jobs_all_have_outcomes_is_done() -> None:
    """A poll can bring the last outcome before Dask gives up the task: there is nothing to retry."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    jobs_of.builder.flush()
    (key,) = jobs_of._sent
    await asyncio.sleep(0.001)
    jobs_of.receive(key, "tcp://gone", [outcome_payload(0, Success(0, "value", 1, 1.0, "job"))])
    (future,) = jobs_of._futures.values()
    future.set_exception(killed())
    await asyncio.sleep(0.001)
    assert not jobs_of._quarantine
    assert not jobs_of._sent
    jobs_of.context.fail.assert_not_called()
    assert len(outcomes(jobs_of.context)) == 1


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.CANCELLED])
async def test_a_run_that_ends_retries_no_chunk(phase: Phase) -> None:
    """The jobs of a chunk whose worker died are pending, and may have started."""
    jobs_of = await scheduler(total=100)
    jobs_of.phase = phase
    await failed_with(jobs_of, killed())
    assert [outcome.started for outcome in outcomes(jobs_of.context)] == [True, True]


@pytest.mark.parametrize("status", ["running", "closed"])
async def test_an_error_of_the_task_is_that_of_each_job(status: str) -> None:
    """With the seconds since it was sent; if the connection is lost the run fails as well."""
    jobs_of = await scheduler(total=100)
    jobs_of._client.status = status
    error = LookupError("a broken worker")
    await asyncio.sleep(10)
    await failed_with(jobs_of, error)
    recorded = outcomes(jobs_of.context)
    assert [(outcome.error, outcome.index, outcome.attempts, outcome.name, outcome.input) for outcome in recorded] == [
        (error, 0, 1, "a-0", "a"),
        (error, 1, 1, "a-1", "a"),
    ]
    assert [outcome.elapsed for outcome in recorded] == pytest.approx([0.001] * 2)
    if status == "running":
        jobs_of.context.fail.assert_not_called()
    else:
        (failure,) = jobs_of.context.fail.call_args.args
        assert "the connection to the cluster is lost: LookupError" in str(failure)
        assert failure.__cause__ is error


async def test_no_job_runs_after_the_last_outcome() -> None:
    """The last poll counted jobs that have ended since; its number is kept only while jobs are unfinished."""
    jobs_of = await scheduler(total=100)
    futures = await sent_chunks(jobs_of, 2)
    jobs_of.context.tally.running = 2
    running = []
    for future in futures:
        future.set_result(ChunkResult("tcp://a", [DONE], "", ""))
        await asyncio.sleep(0.001)
        running.append(jobs_of.context.tally.running)
    assert running == [2, 0]


async def test_a_signal_in_the_task_of_a_chunk_fails_the_run() -> None:
    """Each of its jobs has it as its error, and the run raises it."""

    class SignalError(BaseException):
        """What a signal handler raises. Unlike KeyboardInterrupt it may end a task without ending the event loop."""

    jobs_of, signal = await scheduler(total=100), SignalError()
    await failed_with(jobs_of, signal)
    assert [outcome.error for outcome in outcomes(jobs_of.context)] == [signal] * 2
    jobs_of.context.fail.assert_called_once_with(signal)


async def test_a_chunk_that_someone_else_cancels_fails_the_run() -> None:
    """Its jobs are pending; not so if the run has cancelled it, or withdrawn the chunk."""
    jobs_of = await scheduler(total=100)
    error = CancelledError("by hand")
    await failed_with(jobs_of, error)
    (failure,) = jobs_of.context.fail.call_args.args
    assert failure.__cause__ is error
    assert str(failure) == "double-id-1 was cancelled on the cluster, but not by its run: CancelledError: by hand"
    assert {type(outcome) for outcome in outcomes(jobs_of.context)} == {Pending}
    cancelling = await scheduler(total=100)
    cancelling.phase = Phase.CANCELLED
    await failed_with(cancelling, CancelledError("by the run"))
    cancelling.context.fail.assert_not_called()


async def test_a_job_without_a_payload_in_the_result_has_failed() -> None:
    """No job is lost without an outcome."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    jobs_of.builder.flush()
    await asyncio.sleep(0.001)
    (future,) = jobs_of._futures.values()
    future.set_result(ChunkResult("tcp://a", [], "", ""))
    await asyncio.sleep(0.001)
    (failure,) = outcomes(jobs_of.context)
    assert str(failure.error) == "the worker tcp://a returned no outcome for this job"


@pytest.mark.parametrize(
    ("phase", "stopped", "expired", "ends"),
    [
        (Phase.RUNNING, "", "", ""),
        (Phase.RUNNING, "has stopped", "", "stop"),
        (Phase.STOPPED, "has stopped", "", ""),
        (Phase.RUNNING, "", "was not polled", "fail"),
        (Phase.STOPPED, "", "was not polled", "fail"),
        (Phase.CANCELLED, "", "was not polled", ""),
    ],
)
async def test_a_worker_that_has_ended_its_share_ends_the_run(
    phase: Phase, stopped: str, expired: str, ends: str
) -> None:
    """A worker that gave up stops it; one that missed the driver fails it, unless the run is cancelled anyway."""
    jobs_of = await scheduler(total=100)
    jobs_of.phase = phase
    jobs_of._check_worker(ChunkResult("tcp://a", [], stopped, expired))
    assert jobs_of.context.stop.call_args_list == [call(Stopped.PROBES)] * (ends == "stop")
    assert jobs_of.context.fail.called is (ends == "fail")
    assert jobs_of.status == ("worker tcp://a has stopped" if ends == "stop" else "")
    if ends == "fail":
        assert "worker tcp://a was not polled, and has cancelled its jobs" in str(
            jobs_of.context.fail.call_args.args[0]
        )


async def test_a_task_gets_what_a_worker_needs() -> None:
    """The key of the chunk is that of the task, which Dask neither repeats nor takes for an equal one."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    jobs_of.builder.flush()
    await asyncio.sleep(0.001)
    _, key, run_id, config, inputs = jobs_of._client.submit.call_args.args
    assert (key, run_id, config) == ("double-id-1", "id", jobs_of.config)
    assert isinstance(inputs, bytes)
    assert jobs_of._client.submit.call_args.kwargs == {"key": key, "pure": False, "retries": 0}
    await cancelled(jobs_of)


async def unfinished_names(count: int) -> AsyncIterator[str]:
    """Return the names that a scheduler with this many unfinished jobs reports; the first ten jobs are sent."""
    jobs_of = await scheduler(total=100)
    for index in range(count):
        jobs_of.add("a", index)
    for name in jobs_of.job_names():
        yield name
    jobs_of.stop(Phase.CANCELLED)
    await cancelled(jobs_of)


async def test_unfinished_jobs_are_named() -> None:
    """There are ten names, of jobs that were sent or not, and the number of the others."""
    assert [name async for name in unfinished_names(3)] == [f"a-{n}" for n in range(3)]
    assert [name async for name in unfinished_names(10)] == [f"a-{n}" for n in range(10)]
    assert [name async for name in unfinished_names(13)] == [*(f"a-{n}" for n in range(10)), "and 3 more"]


async def test_a_stop_makes_the_jobs_that_were_not_sent_pending() -> None:
    """Their outcomes show that they have not started."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    jobs_of.stop(Phase.STOPPED)
    assert outcomes(jobs_of.context) == [Pending(0, None, started=False, name="a-0", input="a")]
    assert jobs_of.unfinished == 0


async def test_an_error_while_a_chunk_is_withdrawn_is_ignored() -> None:
    """The loss of the connection ends its task anyway; the names of the tasks show their purposes."""
    jobs_of = await scheduler(total=100)
    (future,) = await sent_chunks(jobs_of, 1)
    future.cancel = Mock(side_effect=OSError("no connection"))
    jobs_of.withdraw(())
    tasks = {task.get_name(): task for task in jobs_of._tasks}
    assert sorted(tasks) == ["double-id-1 result", "double-id-1 withdrawn"]
    await asyncio.sleep(0.001)
    assert tasks["double-id-1 withdrawn"].exception() is None
    future.set_result(ChunkResult("tcp://a", [DONE], "", ""))
    await asyncio.sleep(0.001)
    assert not jobs_of._tasks


async def test_a_run_does_not_wait_for_a_result_that_it_does_not_need() -> None:
    """Polls have brought all outcomes, but the worker does not hand out the result."""
    jobs_of = await scheduler(total=100)
    jobs_of.add("a", 0)
    jobs_of.builder.flush()
    await asyncio.sleep(0.001)
    (key,), (future,) = jobs_of._sent, jobs_of._futures.values()
    jobs_of.receive(key, "tcp://a", [outcome_payload(0, Success(0, "value", 1, 1.0, "job"))])
    asked: list[str] = []

    async def cancel() -> None:
        asked.append("cancel")

    future.cancel = cancel
    await asyncio.wait_for(jobs_of.close(), 10)
    assert asked == ["cancel"]
    assert len(jobs_of._tasks) == 1
    future.set_result(ChunkResult("tcp://a", [], "", ""))
    await asyncio.sleep(0.001)
    assert not jobs_of._tasks
    assert len(outcomes(jobs_of.context)) == 1
