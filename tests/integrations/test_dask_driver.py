"""Rare events in a run on a cluster, each made to happen in a cluster of this process."""

import asyncio
import gc
import importlib
import logging
import sys
import types
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import dask
import pytest
from distributed import Client, Future, KilledWorker, LocalCluster, default_client

from aiosupervise import Adaptive, Budget, Event, Failure, Overload, Pending, Success, WorkerLost, map_all
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask import chunk_scheduler, poller, worker
from aiosupervise.integrations._remote import chunk_builder, messages, serialization, worker_run, worker_runs
from aiosupervise.integrations.dask import DaskEngine, RemoteError

from . import dask_jobs as jobs
from .dask_runs import acknowledged, finish, ours, remote, sent, started, two_polls
from .eventually import eventually

EMPTY = Budget(capacity=1)


@pytest.fixture(autouse=True)
def _forget_all() -> None:
    """Close the gates of the jobs, and forget what they noted."""
    jobs.forget_all()


def killed(key: str) -> KilledWorker:
    """The error of a task whose workers died too often."""
    return KilledWorker(key, types.SimpleNamespace(address="tcp://gone"), 3)  # type: ignore[arg-type]  # all it needs


async def test_a_run_shows_which_worker_pauses(client: Client) -> None:
    """The budget is the worker's, and so is the pause."""
    overload = Overload(EMPTY, first_pause=3600.0, longest_pause=3600.0)
    run = map_all(jobs.hopeless, range(3), overload=overload, engine=DaskEngine(client))
    async with started(run):
        await eventually(lambda: "paused" in repr(run))
        assert "worker inproc://" in repr(run)
    assert len(run.report.pending) == 3


async def test_a_worker_that_gives_up_stops_the_run(client: Client) -> None:
    """When its probes have failed, no further chunk is sent to any worker; unfinished jobs are pending."""
    overload = Overload(EMPTY, first_pause=0.001, longest_pause=0.001, probes=1)
    run = map_all(jobs.hopeless, list(range(500)), limit=2, overload=overload, engine=DaskEngine(client, chunk=10))
    report = await run
    assert len(report.failed) + len(report.pending) == len(report) == 500
    assert report.failed
    assert report.pending


@pytest.mark.parametrize(("limit", "shown"), [(None, {None}), (Adaptive(start=3), {3, 4})])
async def test_limits_of_every_kind(client: Client, limit: Any, shown: set[int | None]) -> None:
    """None stays None, and for an adaptive limit the tally has the sum of those of the workers."""
    run = map_all(jobs.gate, [1, 2, 3], limit=limit, engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: run.tally.running == 3)
        jobs.events["open"].set()
        await task
    assert len(run.report.succeeded) == 3
    assert run.tally.limit in shown


async def test_a_stubborn_job_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits long for cancelled jobs names some of them."""
    assert any("cleans_up-9, and 5 more" in message for message in await stubborn(15, client, monkeypatch))


async def test_a_few_stubborn_jobs_are_all_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ten of them or fewer, no number follows."""
    messages = await stubborn(2, client, monkeypatch)
    assert {message.partition("waits: ")[2] for message in messages} == {"cleans_up-0, cleans_up-1"}


async def stubborn(count: int, client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cancel a run whose jobs do not end before driver and worker, which is in this process, have warned."""
    monkeypatch.setattr("aiosupervise._batch.pump._GRACE", 0.05)
    run = map_all(jobs.cleans_up, range(count), engine=DaskEngine(client))

    async def cancel() -> None:
        async with started(run) as task:
            await eventually(lambda: len(jobs.begun) == count)
            task.cancel()
            await eventually(lambda: len(warned) == 2)
            jobs.events["clean"].set()

    with pytest.warns(RuntimeWarning) as warned:
        await cancel()
    return [str(warning.message) for warning in warned]


async def test_a_run_can_end_before_it_has_connected() -> None:
    """A timeout ends the attempt to connect to an address where nobody listens."""
    report = await map_all(jobs.double, [1, 2], timeout=0.1, engine=DaskEngine("tcp://127.0.0.1:1"))
    assert [(type(outcome), outcome.index) for outcome in report] == [(Pending, 0), (Pending, 1)]


async def test_a_function_that_the_workers_cannot_load(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run raises before any job starts."""
    module = types.ModuleType("only_here")
    exec("async def work(n): return n", module.__dict__)  # noqa: S102 - a module that is nowhere else
    monkeypatch.setitem(sys.modules, "only_here", module)
    run = map_all(module.work, [1], engine=DaskEngine(client))
    monkeypatch.delitem(sys.modules, "only_here")
    monkeypatch.setattr(chunk_scheduler, "serialize", lambda _: b"conly_here\nwork\n.")
    with pytest.raises(RuntimeError, match="cannot unpickle work"):
        await run
    assert [type(outcome) for outcome in run.report] == [Pending]


async def test_an_input_that_the_worker_cannot_unpickle(client: Client) -> None:
    """That job alone fails."""
    inputs: list[Any] = ["fine", jobs.Changeling(None), "fine too"]
    report = await map_all(jobs.hard_to_send, inputs, engine=DaskEngine(client))
    assert [type(outcome) for outcome in report] == [Success, Failure, Success]
    assert isinstance(report.failed[0].error, RemoteError)
    assert "on the worker" in str(report.failed[0].error)


async def test_only_inputs_that_the_worker_cannot_unpickle(client: Client) -> None:
    """Their chunk ends, although no job of it starts."""
    inputs: list[Any] = [jobs.Changeling(None)] * 3
    report = await map_all(jobs.hard_to_send, inputs, engine=DaskEngine(client))
    assert len(report.failed) == 3


async def test_a_chunk_whose_workers_died_is_retried_alone(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that are complete meanwhile wait until it is done."""
    real = worker.run_chunk

    async def dies_first(key: str, *rest: Any) -> Any:
        if not key.endswith("-alone"):
            await jobs.events["die"].wait()
            raise killed(key)
        await jobs.events["open"].wait()
        return await real(key, *rest)

    async def slowly() -> AsyncIterator[int]:
        for n in range(3):  # the first two are a chunk, and the third is alone in the next one
            yield n
        jobs.events["die"].set()
        await jobs.events["flushed"].wait()
        yield 3

    beside: list[int] = []
    send = chunk_scheduler.ChunkScheduler._send

    def counted(self: Any, chunk: Any) -> None:
        beside.append(sum(other.is_isolated for other in self._sent.values()))
        send(self, chunk)

    monkeypatch.setattr(chunk_scheduler.ChunkScheduler, "_send", counted)
    monkeypatch.setattr(chunk_builder, "_LINGER", 3600.0)
    monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", dies_first)
    emitted: list[Event] = []
    run = map_all(jobs.double, slowly(), engine=DaskEngine(client, chunk=40), listen=emitted.append)
    async with started(run) as task:
        await eventually(lambda: any(chunk.is_isolated for chunk in sent(run).values()))
        remote(run)._scheduler.builder.flush()
        assert len(remote(run)._scheduler._quarantine) == 1
        monkeypatch.setattr(chunk_builder, "_LINGER", 0.0)
        jobs.events["flushed"].set()
        jobs.events["open"].set()
        await task
    assert run.report.values() == [0, 2, 4, 6]
    assert {event.worker for event in emitted if isinstance(event, WorkerLost)} == {"tcp://gone"}
    assert beside == [0] * len(beside)


async def test_a_cancel_meets_chunks_that_wait_to_be_retried_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their jobs are pending."""

    async def dies(key: str, *_: Any) -> Any:
        if key.endswith("-alone"):
            await asyncio.Event().wait()
        raise killed(key)

    alone: list[bool] = []
    send = chunk_scheduler.ChunkScheduler._send

    def counted(self: Any, chunk: Any) -> None:
        alone.append(chunk.is_isolated)
        send(self, chunk)

    monkeypatch.setattr(chunk_scheduler.ChunkScheduler, "_send", counted)
    monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", dies)
    run = map_all(jobs.double, list(range(30)), engine=DaskEngine(client, chunk=3))
    async with started(run):
        await eventually(lambda: any(alone))
        assert remote(run)._scheduler._quarantine
    assert len(run.report.pending) == 30
    assert sum(alone) == 1


async def test_a_chunk_that_forgets_a_job(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job fails: none is lost silently."""
    real = worker.run_chunk

    async def forgets(*args: Any) -> Any:
        done = await real(*args)
        done.payloads.pop()
        return done

    monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", forgets)
    (failure,) = (await map_all(jobs.double, [1], engine=DaskEngine(client))).failed
    assert "returned no outcome" in str(failure.error)


@pytest.mark.parametrize("limit", [1, None])
async def test_a_lost_connection_ends_the_run(client: Client, limit: int | None) -> None:
    """Each unfinished job has an outcome, and the run raises."""
    run = map_all(jobs.gate, [1, 2, 3], limit=limit, engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        await client.close()
        with pytest.raises(RuntimeError, match="the connection to the cluster is lost"):
            await task
    assert len(run.report) == 3


async def test_a_scheduler_that_does_not_answer_ends_the_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running jobs finish, the others are pending, and the run raises."""

    async def silent() -> dict[str, int]:
        raise OSError("no answer")

    run = map_all(jobs.gate, list(range(9)), limit=1, engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        monkeypatch.setattr(client, "nthreads", silent)
        await eventually(lambda: all(acknowledged(run, messages.Phase.STOPPED)))
        jobs.events["open"].set()
        with pytest.raises(RuntimeError, match="the connection to the cluster is lost"):
            await task
    assert [outcome.index for outcome in run.report.succeeded] == [0]
    assert len(run.report.pending) == 8


async def test_a_worker_that_was_not_polled_fails_the_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has cancelled its jobs; the run raises, and keeps the outcomes that it has."""
    run = map_all(jobs.gate_for_all_but_0, range(5), limit=2, engine=DaskEngine(client, chunk=5))
    async with started(run) as task:
        await eventually(lambda: run.tally.succeeded == 1)
        monkeypatch.setattr(worker_run, "LEASE", 0.0)  # from the next poll on
        with pytest.raises(RuntimeError, match="has not been polled by the driver for 0 s, and has cancelled its jobs"):
            await task
    assert len(run.report.succeeded) == 1
    assert len(run.report.pending) == 4


async def test_a_worker_that_was_not_polled_after_a_stop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running jobs of a stopped run should have finished."""
    run = map_all(jobs.gate, [1], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        monkeypatch.setattr(worker_run, "LEASE", 0.0)  # from the next poll on
        run.stop()
        with pytest.raises(RuntimeError, match="has not been polled by the driver"):
            await task
    assert [outcome.started for outcome in run.report.pending] == [True]


async def test_a_late_result_of_a_worker_that_was_not_polled(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls that overtake it do not make the driver withdraw the chunk, and so miss the reason."""
    replies: list[messages.PollReply | None] = []
    poll, run_chunk = worker_runs.WorkerRuns.poll, worker_runs.WorkerRuns.run_chunk

    def noted(self: worker_runs.WorkerRuns, run_id: str, phase: messages.Phase) -> messages.PollReply | None:
        reply = poll(self, run_id, phase)
        if jobs.begun and run_id in self._closed:
            replies.append(reply)
        return reply

    async def late(self: worker_runs.WorkerRuns, *args: Any) -> messages.ChunkResult:
        result = await run_chunk(self, *args)
        await eventually(lambda: len(replies) > 2)
        return result

    monkeypatch.setattr(worker_runs.WorkerRuns, "poll", noted)
    monkeypatch.setattr(worker_runs.WorkerRuns, "run_chunk", late)
    run = map_all(jobs.gate, [1], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        monkeypatch.setattr(worker_run, "LEASE", 0.0)  # from the next poll on
        run.stop()
        with pytest.raises(RuntimeError, match="has not been polled by the driver"):
            await task
    assert [outcome.started for outcome in run.report.pending] == [True]


async def test_a_worker_that_forgot_the_run_while_it_was_idle_fails_the_run(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next chunk that it gets."""

    async def slowly() -> AsyncIterator[int]:
        yield 1
        await eventually(lambda: run.tally.succeeded)
        monkeypatch.setattr(worker_run, "LEASE", 0.0)  # from the next poll on
        await eventually(lambda: not worker._runs[cluster.workers[0]]._active)
        yield 2

    run = map_all(jobs.double, slowly(), engine=DaskEngine(client))
    with pytest.raises(RuntimeError, match="has not been polled by the driver"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Pending]


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_chunk_that_somebody_else_cancels(client: Client, *, stopped: bool) -> None:
    """The run raises, also if it was stopped before; the unfinished jobs are pending, and may have started."""
    run = map_all(jobs.gate_for_all_but_0, iter(range(5)), limit=2, engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: run.tally.succeeded == 1)
        (key,) = sent(run)
        if stopped:
            run.stop()
            await eventually(lambda: all(acknowledged(run, messages.Phase.STOPPED)))
        await client.cancel([Future(key, client)], force=True)
        with pytest.raises(RuntimeError, match=f"{key} was cancelled on the cluster, but not by its run"):
            await task
    assert len(run.report.succeeded) == 1
    assert [outcome.started for outcome in run.report.pending] == [True] * 4


@pytest.mark.parametrize("polled", [True, False])
async def test_sent_jobs_may_have_started_when_the_connection_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch, *, polled: bool
) -> None:
    """No worker can deny it any more."""
    monkeypatch.setattr(poller, "_INTERVAL", poller._INTERVAL if polled else 3600.0)
    run = map_all(jobs.gate, [1, 2, 3], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: run.tally.running == 3 if polled else jobs.begun)
        await client.close()
        with pytest.raises(RuntimeError, match="the connection to the cluster is lost"):
            await task
    assert [outcome.started for outcome in run.report.pending] == [True] * 3


async def test_a_slow_source_does_not_flood_the_scheduler(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its inputs is a chunk of its own: at most twice the limit are sent, or three where that is more."""
    monkeypatch.setattr(chunk_builder, "_LINGER", 0.0)

    given: list[int] = []

    async def slowly() -> AsyncIterator[int]:
        for n in range(12):
            given.append(n)
            yield n
            await eventually(lambda: given[-1] in sent_indices())

    def sent_indices() -> set[int]:
        return {index for chunk in sent(run).values() for index, _ in chunk.jobs.values()}

    run = map_all(jobs.gate, slowly(), limit=2, engine=DaskEngine(client))
    async with started(run):
        await eventually(lambda: run.tally.running == 2 and sent_indices() == {0, 1, 2, 3})
        await two_polls(run)
    assert len(run.report.pending) == 5  # four that were sent, and one that had been pulled before


async def test_a_close_that_takes_long_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning names the workers that close the run, and not a job or the source."""

    async def deaf(_: str) -> None:
        jobs.begun.append("closing")
        await jobs.events["open"].wait()

    monkeypatch.setattr("aiosupervise._batch.pump._GRACE", 3600.0)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.close_run", deaf)
    run = map_all(jobs.never, [1], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: run.tally.running)
        task.cancel()
        await eventually(lambda: "closing" in jobs.begun)
        assert run._pump is not None
        with pytest.warns(RuntimeWarning, match="so the run waits: the workers, which close the run"):
            run._pump._warn_of_stubborn_jobs()
        jobs.events["open"].set()


async def test_a_late_chunk_does_nothing(client: Client) -> None:
    """A chunk of a run that was closed starts no job."""
    (address,) = (await client.nthreads()).keys()
    await client.run(worker.poll_run, "ended before it came", 2, workers=[address])
    await client.run(worker.poll_run, "ended before it came", 2, workers=[address])
    inputs = serialization.serialize([serialization.serialize(1)])
    done = await client.submit(worker.run_chunk, "late", "ended before it came", b"", inputs, key="late")
    assert [(record[0], record[1], record[-1]) for record in done.payloads] == [(0, None, False)]


def test_an_engine_has_a_repr() -> None:
    """It has the cluster and the size of a chunk."""
    assert repr(DaskEngine("tcp://127.0.0.1:1")) == "DaskEngine('tcp://127.0.0.1:1', chunk=1000)"


async def test_leaving_at_once(client: Client) -> None:
    """A run that is left before it has begun to connect starts no job."""
    async with map_all(jobs.double, [1, 2], engine=DaskEngine(client)) as run:
        pass
    assert [type(outcome) for outcome in run.report] == [Pending, Pending]


async def test_a_reply_about_a_done_chunk_is_ignored(client: Client) -> None:
    """The result of a chunk may overtake the reply to a poll."""
    async with map_all(jobs.double, [1, 2], strategy="as_completed", engine=DaskEngine(client)) as run:
        async for outcome in run:
            assert isinstance(outcome, Success)
            remote(run)._scheduler.receive("gone", "somewhere", [])


async def test_a_poll_that_fails(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes arrive with the result of their chunk."""

    def broken(*_: Any, **__: Any) -> None:
        jobs.begun.append("poll")
        raise OSError("lost")

    monkeypatch.setattr("aiosupervise.integrations._dask.poller.poll_run", broken)
    run = map_all(jobs.gate, [0.0, 0.2], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun.count("poll") >= 2 and len(set(jobs.begun)) == 3)
        jobs.events["open"].set()
        await task
    assert run.report.values() == [0.0, 0.2]


async def test_a_poll_under_way_when_the_run_is_cancelled(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not have the new phase: another one follows."""
    real = worker.poll_run

    async def slow(run: str, phase: int, dask_worker: Any) -> Any:
        if phase == messages.Phase.RUNNING:
            jobs.begun.append("poll")
            await jobs.events["answer"].wait()
        return real(run, phase, dask_worker)

    monkeypatch.setattr("aiosupervise.integrations._dask.poller.poll_run", slow)
    run = map_all(jobs.gate, range(3), engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: set(jobs.begun) == {0, 1, 2, "poll"})
        task.cancel()
        await eventually(lambda: remote(run)._scheduler.phase is messages.Phase.CANCELLED)
        jobs.events["answer"].set()
    assert len(run.report.pending) == 3


async def test_a_worker_that_does_not_close_the_run(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run waits for it for a while, and then leaves it alone."""

    async def deaf(_: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(poller, "_REPLY_TIMEOUT", 0.05)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.close_run", deaf)
    assert (await map_all(jobs.double, [1], engine=DaskEngine(client))).values() == [2]
    assert not [task for task in ours() if "call of" in task.get_name()]


async def test_a_worker_that_does_not_check_the_function(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is blocked when the run begins delays it for a moment only."""

    async def deaf(_: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(poller, "_REPLY_TIMEOUT", 0.05)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.check_config", deaf)
    assert (await map_all(jobs.double, [1], engine=DaskEngine(client))).values() == [2]
    assert not ours()


async def test_a_failed_poll_is_not_repeated_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stops polls at once, but waits for the interval if that fails."""

    def broken(_: str, phase: int) -> None:
        jobs.begun.append(messages.Phase(phase))
        raise OSError("lost")

    asked: list[float] = []
    nthreads: Any = client.nthreads

    def counted() -> Any:
        asked.append(0.0)
        return nthreads()

    monkeypatch.setattr(poller, "_INTERVAL", 3600.0)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.poll_run", broken)
    monkeypatch.setattr(client, "nthreads", counted)
    run = map_all(jobs.gate, [2.5], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: set(jobs.begun) == {2.5, messages.Phase.RUNNING})
        run.stop()
        await eventually(lambda: messages.Phase.STOPPED in jobs.begun)
        for _ in range(30):  # as long as many rounds would take that do not wait
            await nthreads()
        jobs.events["open"].set()
        await task
    assert run.report.values() == [2.5]
    assert len(asked) < 10


async def test_the_slowest_job_of_a_chunk_does_not_hold_its_thread(client: Client) -> None:
    """When all jobs of a chunk have started, the next chunk begins: a worker with one thread runs both."""
    run = map_all(jobs.waits_for_two, iter(range(3)), engine=DaskEngine(client, chunk=1))
    assert (await asyncio.wait_for(run, 30)).values() == [0, 1, 2]


async def test_a_cancel_that_comes_twice_cuts_no_clean_up_short(client: Client) -> None:
    """The jobs on the worker are cancelled once, and the run waits until they have ended."""
    run = map_all(jobs.cleans_up, range(5), engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: len(jobs.begun) == 5)
        task.cancel()
        await eventually(lambda: len(jobs.cleaning) == 5)
        for _ in range(2):
            task.cancel()
            await two_polls(run)
        jobs.events["clean"].set()
        await asyncio.wait([task])
    assert task.cancelled()
    assert sorted(map(str, jobs.cleaned)) == list("01234")
    assert not ours()


async def test_a_worker_with_small_chunks_reaches_its_limit(client: Client) -> None:
    """More of them are sent than a few for each thread."""
    run = map_all(jobs.gate, range(40), limit=10, engine=DaskEngine(client, chunk=1))
    async with started(run) as task:
        await eventually(lambda: run.tally.running == 10)
        jobs.events["open"].set()
        await task
    assert len(run.report.succeeded) == 40


async def test_polls_do_not_flood_the_log_of_the_worker(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Dask logs each function that it runs, and polls are ten a second; other functions it does log."""
    caplog.set_level(logging.INFO, "distributed.worker")
    run = map_all(jobs.gate, [1], engine=DaskEngine(client))
    async with started(run):
        await eventually(lambda: jobs.begun)
        await two_polls(run)
        caplog.clear()
        await two_polls(run)
        await client.run(jobs.left_over)
    assert "left_over" in caplog.text
    assert "close_run" in caplog.text
    assert "poll_run" not in caplog.text


async def test_a_worker_that_joins_takes_its_share(cluster: LocalCluster, client: Client) -> None:
    """It gets chunks, its limit counts, and it learns of the cancel."""
    run = map_all(jobs.never, jobs.endless(), limit=1, engine=DaskEngine(client, chunk=1))
    async with started(run):
        await eventually(lambda: (run.tally.limit, run.tally.running) == (1, 1))
        await cluster.scale(2)
        await eventually(lambda: (run.tally.limit, run.tally.running) == (2, 2))
    assert jobs.left_over() == []


async def test_a_stop_where_there_is_no_worker(cluster: LocalCluster, client: Client) -> None:
    """Jobs that wait for a worker are pending: a stopped run does not wait until one joins."""
    await cluster.scale(0)
    scheduler: Any = cluster.scheduler
    await eventually(lambda: not scheduler.workers)
    run = map_all(jobs.double, range(5), engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: sent(run))
        run.stop()
        await asyncio.wait_for(task, 30)
    assert [outcome.started for outcome in run.report.pending] == [False] * 5


async def test_a_stop_withdraws_chunks_that_wait_behind_other_work(client: Client) -> None:
    """The worker is busy with someone else's task: chunks that it has not begun are pending at once."""
    other = client.submit(jobs.holds_its_thread, pure=False)
    await eventually(lambda: jobs.begun == ["other"])
    run = map_all(jobs.double, range(5), engine=DaskEngine(client))
    try:
        async with started(run) as task:
            await eventually(lambda: sent(run))
            run.stop()
            await asyncio.wait_for(task, 30)
    finally:
        jobs.released.set()
    assert [outcome.started for outcome in run.report.pending] == [False] * 5
    await other


async def test_a_stop_before_there_is_a_connection() -> None:
    """The attempt to connect ends too."""
    run = map_all(jobs.double, [1, 2], engine=DaskEngine("tcp://127.0.0.1:1"))
    asyncio.get_running_loop().call_later(0.1, run.stop)
    report = await asyncio.wait_for(run, 30)
    assert [outcome.started for outcome in report.pending] == [False] * 2
    assert not ours()


async def test_an_error_of_the_connection_after_a_stop_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped run no longer needs a connection."""

    async def connect(_: DaskEngine) -> None:
        task = asyncio.current_task()
        assert task is not None
        jobs.begun.append(task.get_name())
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("no cluster")

    monkeypatch.setattr(DaskEngine, "connect", connect)
    run = map_all(jobs.double, [1, 2], engine=DaskEngine("tcp://127.0.0.1:1"))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        run.stop()
        await asyncio.wait_for(task, 30)
    assert jobs.begun == ["double opening"]
    assert len(run.report.pending) == 2
    assert not ours()


async def test_the_client_of_a_run_is_not_the_default_client(cluster: LocalCluster) -> None:
    """Other code of the program, which may use Dask's default client, is not affected."""
    engine = DaskEngine(cluster.scheduler_address)
    client = await engine.connect()
    with pytest.raises(ValueError, match="No client"):
        default_client()
    await engine.disconnect(client)
    assert client.status == "closed"


async def test_an_address_where_nobody_listens() -> None:
    """Dask tries for a while; then the run raises, and no job has started."""
    run = map_all(jobs.double, [1, 2], engine=DaskEngine("tcp://127.0.0.1:1"))
    with dask.config.set({"distributed.comm.timeouts.connect": 0.1}), pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        await run
    assert [outcome.started for outcome in run.report.pending] == [False] * 2
    assert not ours()


async def test_the_end_of_the_loop_ends_a_connection_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every task is cancelled once, by the loop; the run waits for its attempt to connect."""
    left: list[str] = []

    async def connect(_: DaskEngine) -> None:
        try:
            jobs.begun.append("connecting")
            await asyncio.Event().wait()
        finally:
            for _turn in range(10):
                await asyncio.sleep(0)
            left.append("in order")

    monkeypatch.setattr(DaskEngine, "connect", connect)
    run = map_all(jobs.double, [1, 2], engine=DaskEngine("tcp://127.0.0.1:1"))
    task = asyncio.create_task(finish(run))
    await eventually(lambda: jobs.begun)
    for other in [task, *ours()]:
        other.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert left == ["in order"]
    assert [type(outcome) for outcome in run.report] == [Pending, Pending]
    assert not ours()


@pytest.mark.parametrize("chunk", [1, 50])
async def test_the_end_of_the_loop_makes_everything_pending(client: Client, chunk: int) -> None:
    """The tasks that wait for results are cancelled too: no job fails by that, and none is left on the worker."""
    run = map_all(jobs.never, list(range(20)), limit=5, engine=DaskEngine(client, chunk=chunk))
    task = asyncio.create_task(finish(run))
    await eventually(lambda: run.tally.running == 5)
    for other in sorted([task, *ours()], key=lambda other: "pump" in other.get_name()):  # the pump comes last
        if "on a worker" not in other.get_name():  # that is in another process, but for this test
            other.cancel()
    await asyncio.wait([task])
    assert {type(outcome) for outcome in run.report} == {Pending}
    assert len(run.report) == 20
    assert not ours()


async def test_a_chunk_that_comes_after_the_stop_starts_nothing(client: Client) -> None:
    """A worker that takes no part in the run learns of the stop all the same."""
    (address,) = (await client.nthreads()).keys()
    await client.run(worker.poll_run, "stopped", int(messages.Phase.STOPPED), workers=[address])
    inputs = serialization.serialize([serialization.serialize(1)])
    config = serialization.serialize(EngineConfig(jobs.double, "double", 1, None))
    done = await client.submit(worker.run_chunk, "new", "stopped", config, inputs, key="new")
    assert [record[-1] for record in done.payloads] == [False]


async def test_a_worker_forgets_a_driver_that_is_gone(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its jobs are cancelled, and late chunks start no job."""
    inputs = serialization.serialize([serialization.serialize(1)])
    config = serialization.serialize(EngineConfig(jobs.gate, "gate", 1, None))
    first = client.submit(worker.run_chunk, "first", "gone", config, inputs, key="first")
    await eventually(lambda: jobs.begun)
    monkeypatch.setattr(worker_run, "LEASE", 0.0)  # from the next poll on, which is the last
    worker.poll_run("gone", messages.Phase.RUNNING, cluster.workers[0])
    late = client.submit(worker.run_chunk, "late", "gone", config, inputs, key="late")
    for chunk, began in (first, True), (late, False):
        done = await chunk
        assert [record[-1] for record in done.payloads] == [began]
        assert not ours()
        assert worker._runs[cluster.workers[0]]._active == {}


@pytest.mark.parametrize("logged", [True, False])
async def test_a_worker_that_was_lost_between_two_polls(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, logged: bool
) -> None:
    """It is reported by an event and in the log, also if no poll found the chunk on the second worker."""
    real = worker.run_chunk

    async def elsewhere(*args: Any) -> messages.ChunkResult:
        done = await real(*args)
        return messages.ChunkResult("tcp://another", done.payloads, done.stopped, done.expired)

    def without_records(run: str, phase: int, dask_worker: Any) -> Any:
        reply = worker.poll_run(run, phase, dask_worker)
        return reply and replace(reply, chunks={key: [] for key in reply.chunks})

    monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", elsewhere)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.poll_run", without_records)
    monkeypatch.setattr(logging.getLogger("aiosupervise.run"), "disabled", not logged)
    emitted: list[Event] = []
    run = map_all(jobs.gate, iter([1, 2, 3]), engine=DaskEngine(client), listen=emitted.append if logged else None)
    async with started(run) as task:
        await eventually(lambda: any(chunk.worker for chunk in sent(run).values()))
        jobs.events["open"].set()
        await task
    assert len(run.report.succeeded) == 3
    lost = [event for event in emitted if isinstance(event, WorkerLost)]
    assert [(event.worker.partition("://")[0], event.jobs) for event in lost] == [("inproc", 3)] * logged
    assert ("lost worker inproc://" in caplog.text) is logged


async def test_a_poll_that_brings_the_last_outcome(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not wait for the result of the chunk, and leaves no task behind that does."""

    async def late(*_: Any) -> None:
        jobs.begun.append("chunk")
        await jobs.events["open"].wait()

    monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", late)
    run = map_all(jobs.double, [1], engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(lambda: jobs.begun)
        (key,) = sent(run)
        payload = serialization.outcome_payload(0, Success(0, 2, 1, 0.0, "double"))
        remote(run)._scheduler.receive(key, "somewhere", [payload])
        await asyncio.wait_for(task, 30)
    assert run.report.values() == [2]
    assert not ours()
    jobs.events["open"].set()


async def test_large_inputs_are_sent_in_small_chunks(client: Client) -> None:
    """Dask warns of more than 10 MB in one task."""
    inputs = [bytes(1_500_000)] * 8
    assert (await map_all(jobs.size, inputs, engine=DaskEngine(client))).values() == [1_500_000] * 8
    assert (await map_all(jobs.size, iter(inputs), engine=DaskEngine(client))).values() == [1_500_000] * 8


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the garbage collector, so that only reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("ending", ["well", "jobs fail", "chunks fail", "never opened"])
async def test_a_run_that_has_ended_is_freed(client: Client, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reference cycle keeps it, nor do the errors of its report."""

    async def breaks(*_: Any) -> None:
        raise LookupError("a broken worker")

    if ending == "chunks fail":
        monkeypatch.setattr("aiosupervise.integrations._dask.chunk_scheduler.run_chunk", breaks)
    if ending == "never opened":
        await client.close()
    run = map_all(jobs.always_busy if ending == "jobs fail" else jobs.double, range(5), engine=DaskEngine(client))
    with suppress(RuntimeError):
        await run
    outcomes = list(run.report)
    assert run._pump is not None
    remote = weakref.ref(run._pump._engine)
    del run
    assert remote() is None
    assert len(outcomes) == (0 if ending == "never opened" else 5)


async def test_a_client_that_is_closed(client: Client) -> None:
    """The run raises, and no job has started."""
    await client.close()
    run = map_all(jobs.double, [1, 2], engine=DaskEngine(client))
    with pytest.raises(RuntimeError, match="closed"):
        await run
    assert [outcome.started for outcome in run.report.pending] == [False] * 2


def test_import_without_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the import error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.dask")
    with pytest.raises(ImportError, match=r'needs distributed: pip install "aiosupervise\[dask\]"$'):
        importlib.import_module("aiosupervise.integrations.dask")
