"""Batches on a Dask cluster: the same contract as in this process, and what only a cluster can do to a run."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from aiosupervise import (
    Event,
    Failure,
    JobFinished,
    Pending,
    Reason,
    RunFinished,
    Success,
    map_all,
    verdict,
)
from aiosupervise.integrations._remote.messages import Phase
from aiosupervise.integrations.dask import DaskEngine, RemoteError

from . import dask_jobs as jobs
from .dask_runs import acknowledged, started, two_processes
from .eventually import eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster that the tests of this module share; they leave its workers alive."""
    with two_processes() as cluster:
        yield cluster


@pytest.fixture
def address(cluster: LocalCluster) -> str:
    """The address of its scheduler."""
    address: str = cluster.scheduler_address
    return address


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    """A client of this loop."""
    async with Client(address, asynchronous=True, set_as_default=False) as client:
        await client.wait_for_workers(2)
        yield client


@pytest.fixture
async def near() -> AsyncIterator[Client]:
    """A client of a cluster that is all in this process and loop."""
    settings: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}
    async with (
        LocalCluster(processes=False, asynchronous=True, **settings) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["here", "near", pytest.param("processes", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> DaskEngine | None:
    """Every engine that there is."""
    if request.param == "here":
        return None
    return DaskEngine(request.getfixturevalue("near" if request.param == "near" else "client"), chunk=10)


# What holds for every engine.


async def test_known_inputs_are_not_sent(engine: DaskEngine | None, tmp_path: Path) -> None:
    """The driver writes the journal, and replays it: only failures and new inputs go to the workers."""
    first = await map_all(jobs.odd_fails, list(range(300)), engine=engine, journal=tmp_path / "run.db")
    inputs = [*range(290), *range(1000, 1010, 2)]
    run = map_all(jobs.odd_fails, inputs, engine=engine, journal=tmp_path / "run.db", strategy="as_completed")
    async with run:
        second = [outcome async for outcome in run]
    assert first.tally.succeeded == 150
    assert (run.tally.succeeded, run.tally.replayed, run.tally.failed) == (150, 145, 145)
    assert sorted(outcome.index for outcome in second) == [*range(295)]
    assert {outcome.input for outcome in second if isinstance(outcome, Success) and not outcome.replayed} == {
        *range(1000, 1010, 2)
    }


async def test_each_input_has_its_outcome_in_input_order(engine: DaskEngine | None) -> None:
    """Gather: successes and failures in input order, with their inputs, names, attempts and errors."""
    report = await map_all(jobs.odd_fails, list(range(100)), engine=engine)
    assert [(type(o), o.index, o.input, o.name) for o in report] == [
        (Failure if n % 2 else Success, n, n, f"odd_fails-{n}") for n in range(100)
    ]
    assert [o.value for o in report.succeeded] == list(range(0, 100, 2))
    assert [(type(o.error), o.error.args, o.reason, o.attempts) for o in report.failed] == [
        (jobs.BusyError, (n,), None, 1) for n in range(1, 100, 2)
    ]
    tally = report.tally
    assert (tally.total, tally.succeeded, tally.failed, tally.pending, tally.running) == (100, 50, 50, 0, 0)


async def test_a_verdict_comes_with_its_error(engine: DaskEngine | None) -> None:
    """Retries, the reason of giving up and the verdict are the same wherever the call is made."""
    report = await map_all(jobs.always_busy, [1], engine=engine)
    (failure,) = report.failed
    note = verdict(failure.error)
    assert failure.attempts == 3
    assert failure.reason is Reason.EXHAUSTED
    assert note is not None
    assert (note.attempts, note.reason) == (3, Reason.EXHAUSTED)
    assert report.tally.retries == 2


async def test_outcomes_come_in_completion_order(engine: DaskEngine | None, tmp_path: Path) -> None:
    """As completed: the quick job of a chunk does not wait for the slow one."""
    slow, slower = tmp_path / "slow", tmp_path / "slower"
    order = []
    async with map_all(jobs.waits_for, [str(slower), "", str(slow)], strategy="as_completed", engine=engine) as run:
        for release in slow, slower, None:
            order.append((await anext(run)).index)
            if release is not None:
                release.touch()
    assert order == [1, 2, 0]


@pytest.mark.parametrize("return_when", ["FIRST_COMPLETED", "FIRST_EXCEPTION"])
async def test_return_when_ends_the_run(return_when: Any, engine: DaskEngine | None) -> None:
    """Wait: the first outcome of its kind ends the run, and the rest is pending, ready to be run again."""
    # It ends while others of its chunk go on.
    func: Any = jobs.first_returns if return_when == "FIRST_COMPLETED" else jobs.only_one_fails
    report = await map_all(func, list(range(40)), strategy="wait", return_when=return_when, engine=engine)
    first = Success if return_when == "FIRST_COMPLETED" else Failure
    assert [(type(outcome), outcome.index) for outcome in report][:1] == [(first, 1)]
    assert sorted(pending.index for pending in report.pending) == [0, *range(2, 40)]


async def test_a_timeout_makes_the_rest_pending(engine: DaskEngine | None) -> None:
    """All inputs of a list have an outcome, started or not; a pending job can be run again."""
    report = await map_all(jobs.never, list(range(60)), limit=5, timeout=0.1, engine=engine)
    assert sorted(o.index for o in report.pending) == list(range(60))
    assert not all(o.started for o in report.pending)
    assert [o.input for o in report.pending] == [o.index for o in report.pending]
    assert all(o.job is not None for o in report.pending)


async def test_a_pending_job_shows_whether_it_had_started(engine: DaskEngine | None) -> None:
    """Leaving the block cancels the running jobs; the others have started=False."""
    async with map_all(jobs.never, list(range(60)), limit=5, engine=engine) as run:
        await eventually(lambda: run.tally.running)
    assert len(run.report.pending) == 60
    assert any(o.started for o in run.report.pending)
    assert not all(o.started for o in run.report.pending)


async def test_stop_lets_running_jobs_finish(engine: DaskEngine | None, tmp_path: Path) -> None:
    """A stopped run starts no further job."""
    done = tmp_path / "done"
    run = map_all(jobs.waits_for, [str(done)] * 200, limit=2, engine=engine)
    async with started(run) as task:
        await eventually(lambda: run.tally.running)
        run.stop()
        if engine is not None:
            await eventually(lambda: all(acknowledged(run, Phase.STOPPED)))
        done.touch()
        await task
    report = run.report
    assert report.succeeded
    assert len(report.succeeded) <= 4
    assert len(report.succeeded) + len(report.pending) == 200
    assert not any(pending.started for pending in report.pending)


async def test_a_job_that_cancels_itself_has_failed(engine: DaskEngine | None) -> None:
    """It does not end the run, nor is it taken for pending."""
    report = await map_all(jobs.cancels_itself, [5], engine=engine)
    assert [type(failure.error) for failure in report.failed] == [asyncio.CancelledError]


async def test_an_endless_source_streams(engine: DaskEngine | None) -> None:
    """Inputs are pulled as outcomes are read, and leaving the block ends everything."""
    seen = set()
    async with map_all(jobs.double, jobs.endless(), strategy="as_completed", engine=engine) as run:
        async for outcome in run:
            seen.add(outcome.index)
            if len(seen) == 500:
                break
    assert len(seen) == 500
    assert len(run.report) < 1000
    assert not {outcome.index for outcome in run.report} & seen


async def test_an_async_source_is_pulled_and_closed(engine: DaskEngine | None) -> None:
    """An endless async source is pulled one by one, and closed when the run ends early."""
    closed: list[str] = []
    async with map_all(jobs.double, jobs.endless_async(closed), strategy="gather", engine=engine) as run:
        async for outcome in run:
            if outcome.index == 99:
                run.stop()
    assert closed == ["closed"]
    assert run.tally.succeeded >= 100


async def test_a_slow_source_holds_nothing_back(engine: DaskEngine | None) -> None:
    """Its items are processed while it is silent."""
    more = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    values = []
    async with map_all(jobs.double, slow(), engine=engine) as run:
        async for outcome in run:
            assert isinstance(outcome, Success)
            values.append(outcome.value)
            more.set()
    assert values == [2, 4]


@pytest.mark.parametrize("inputs", [[], iter(())])
async def test_nothing_to_do(inputs: Any, engine: DaskEngine | None) -> None:
    """A run without inputs ends, without outcomes."""
    assert len(await map_all(jobs.double, inputs, engine=engine)) == 0


async def test_an_error_of_the_source_is_raised_after_the_outcomes(engine: DaskEngine | None) -> None:
    """The jobs that were pulled before it finish first."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    run = map_all(jobs.double, broken(), engine=engine)
    with pytest.raises(LookupError, match="no more"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success]


async def test_events_of_the_run_are_emitted(engine: DaskEngine | None) -> None:
    """A listener gets one for each job, and one for the end."""
    emitted: list[Event] = []
    await map_all(jobs.double, range(30), engine=engine, listen=emitted.append)
    assert sum(isinstance(event, JobFinished) for event in emitted) == 30
    assert isinstance(emitted[-1], RunFinished)


async def test_a_cancelled_caller_leaves_a_report(engine: DaskEngine | None) -> None:
    """Every job that was pulled is in it."""
    run = map_all(jobs.never, range(100), limit=10, engine=engine)
    async with started(run):
        await eventually(lambda: run.tally.running)
    assert run.report.pending
    assert {type(outcome) for outcome in run.report} == {Pending}


# What only a cluster can do.


async def test_a_job_does_not_end_its_worker(near: Client) -> None:
    """SystemExit is a failure of that job: the worker has other jobs, and those of others."""
    report = await map_all(jobs.leave, range(3), engine=DaskEngine(near))
    assert [failure.index for failure in report.failed] == [1]
    assert "SystemExit: 3 (a job must not end its worker)" in str(report.failed[0].error)


# What is sent.


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("error that cannot be unpickled", "integrations.dask_jobs.StubbornError"),
        ("error that cannot be pickled", "integrations.dask_jobs.UnprintableError"),
        ("error that becomes something else", "integrations.dask_jobs.FickleError"),
        ("result that cannot be pickled", "TypeError"),
        ("result that cannot be unpickled", "EOFError"),
    ],
)
async def test_what_cannot_be_sent_fails_alone(near: Client, kind: str, name: str) -> None:
    """It becomes a failure with the type's name, message and traceback, and affects no other job of its chunk."""
    report = await map_all(jobs.hard_to_send, ["fine", kind, "fine too"], engine=DaskEngine(near))
    assert [success.value for success in report.succeeded] == ["fine", "fine too"]
    (failure,) = report.failed
    assert isinstance(failure.error, RemoteError)
    assert failure.error.type_name == name
    assert isinstance(failure.error.message, str)
    assert failure.error.why in str(failure.error)


@pytest.mark.parametrize("inputs", [[1, sys.stdout], (1, sys.stdout)])
def test_an_input_that_cannot_be_pickled_is_refused_at_once(inputs: Any) -> None:
    """Nothing has started: the error names the input."""
    with pytest.raises(TypeError, match="input 1 cannot be pickled"):
        map_all(jobs.hard_to_send, inputs, engine=DaskEngine("tcp://127.0.0.1:1"))


async def test_an_input_of_a_lazy_source_that_cannot_be_pickled(near: Client) -> None:
    """It is known only when it comes: those before finish, and the error names it."""
    inputs: Any = iter(["fine", sys.stdout])
    run = map_all(jobs.hard_to_send, inputs, engine=DaskEngine(near))
    with pytest.raises(TypeError, match="input 1 cannot be pickled"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success]


def test_a_function_that_cannot_be_pickled_is_refused_at_once() -> None:
    """Nothing has started: the error names the function."""
    lock = asyncio.Event()
    out = sys.stdout

    async def holds_a_file(n: int) -> None:
        print(n, lock, file=out)

    with pytest.raises(TypeError, match=r"holds_a_file cannot be .*; create sessions, locks and files inside it$"):
        map_all(holds_a_file, [1], engine=DaskEngine("tcp://127.0.0.1:1"))


# Wrong ways to use it.


@pytest.fixture
def synchronous() -> Iterator[Client]:
    """A client that is not asynchronous, of a cluster in another thread."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


async def test_a_synchronous_client_is_refused(synchronous: Client) -> None:
    """It belongs to a thread of its own; the error shows the right line."""
    run = map_all(jobs.double, [1], engine=DaskEngine(synchronous))
    with pytest.raises(RuntimeError) as refused:
        await run
    assert str(refused.value) == (
        "the client must be asynchronous and created in the loop that runs the batch: write "
        "`async with Client(address, asynchronous=True) as client`, or pass DaskEngine the address"
    )


async def test_a_run_that_is_given_an_address_disconnects(near: Client) -> None:
    """The engine connects by itself, and does not close a given client. A run has ended before the next one begins."""
    cluster: Any = near.cluster
    scheduler = cluster.scheduler
    (mine,) = set(scheduler.clients) - {"fire-and-forget"}
    report = await map_all(jobs.double, [1, 2], engine=DaskEngine(scheduler.address))
    assert report.values() == [2, 4]
    await eventually(lambda: set(scheduler.clients) - {"fire-and-forget"} == {mine})
    assert (await map_all(jobs.double, [1, 2], engine=DaskEngine(near))).values() == [2, 4]
    assert near.status == "running"


@pytest.mark.parametrize("cluster", [None, 1, Client])
def test_a_cluster_is_a_client_or_an_address(cluster: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises(TypeError, match=re.escape(f"Client or the address of a scheduler; got {cluster!r}")):
        DaskEngine(cluster)


@pytest.mark.parametrize("engine", ["dask", DaskEngine])
def test_an_engine_is_an_engine(engine: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises(TypeError, match="engine must be None, or an engine"):
        map_all(jobs.double, [1], engine=engine)


@pytest.mark.parametrize("chunk", [0, None, 1.5])
def test_a_chunk_is_a_count(chunk: Any) -> None:
    """It is checked at once."""
    with pytest.raises((TypeError, ValueError), match="chunk must be an int"):
        DaskEngine("tcp://127.0.0.1:1", chunk=chunk)
