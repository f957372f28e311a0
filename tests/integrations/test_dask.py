"""Batches on a Dask cluster: the same contract as in this process, and what only a cluster can do to a run."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from aiosupervise import (
    Backoff,
    Event,
    Failure,
    JobFinished,
    Pending,
    Reason,
    RunFinished,
    Success,
    map_all,
    supervise,
    verdict,
)
from aiosupervise.integrations._remote.messages import Phase
from aiosupervise.integrations.dask import DaskEngine, RemoteError

from . import dask_jobs as jobs
from .dask_runs import acknowledged, sent, started
from .eventually import eventually

TESTS = Path(__file__).parents[1]


@contextmanager
def two_processes() -> Iterator[LocalCluster]:
    """Start a cluster of two worker processes, which can import the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        settings: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
        with LocalCluster(**settings) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster that the tests of this module share; they leave its workers alive."""
    with two_processes() as cluster:
        yield cluster


@pytest.fixture
def address(cluster: LocalCluster) -> str:
    """Where its scheduler is."""
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


@pytest.fixture(params=["here", "near", "processes"])
def engine(request: pytest.FixtureRequest) -> DaskEngine | None:
    """Every engine that there is."""
    if request.param == "here":
        return None
    return DaskEngine(request.getfixturevalue("near" if request.param == "near" else "client"), chunk=10)


async def ended(client: Client) -> None:
    """Hold if no worker has anything left of a run."""
    left = await client.run(jobs.left_over)
    assert not any(left.values())


# What holds for every engine.


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
        for let_go in slow, slower, None:
            order.append((await anext(run)).index)
            if let_go is not None:
                let_go.touch()
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
    """What a list held is pending, whether it had begun or not; what is pending can be run again."""
    report = await map_all(jobs.never, list(range(60)), limit=5, timeout=0.1, engine=engine)
    assert sorted(o.index for o in report.pending) == list(range(60))
    assert not all(o.started for o in report.pending)
    assert [o.input for o in report.pending] == [o.index for o in report.pending]
    assert all(o.job is not None for o in report.pending)


async def test_what_is_pending_tells_whether_it_had_started(engine: DaskEngine | None) -> None:
    """Leaving the block cancels the jobs that run; those that had not started say so."""
    async with map_all(jobs.never, list(range(60)), limit=5, engine=engine) as run:
        await eventually(lambda: run.tally.running)
    assert len(run.report.pending) == 60
    assert any(o.started for o in run.report.pending)
    assert not all(o.started for o in run.report.pending)


async def test_stop_lets_finish_what_runs(engine: DaskEngine | None, tmp_path: Path) -> None:
    """A stopped run starts nothing new; what runs succeeds."""
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
    """It does not end the run, nor lose its place."""
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
    """What it has given is done while it is silent."""
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
    """No inputs, no outcomes."""
    assert len(await map_all(jobs.double, inputs, engine=engine)) == 0


async def test_what_the_source_raises_comes_after_the_outcomes(engine: DaskEngine | None) -> None:
    """What was pulled before it finishes; then the error is raised."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    run = map_all(jobs.double, broken(), engine=engine)
    with pytest.raises(LookupError, match="no more"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success]


async def test_events_of_the_run_are_told(engine: DaskEngine | None) -> None:
    """A listener hears of each job and of the end."""
    heard: list[Event] = []
    await map_all(jobs.double, range(30), engine=engine, listen=heard.append)
    assert sum(isinstance(event, JobFinished) for event in heard) == 30
    assert isinstance(heard[-1], RunFinished)


async def test_a_cancelled_caller_leaves_a_report(engine: DaskEngine | None) -> None:
    """Every job that was pulled is in it."""
    run = map_all(jobs.never, range(100), limit=10, engine=engine)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.2)
    assert run.report.pending
    assert {type(outcome) for outcome in run.report} == {Pending}


# Where jobs run.


async def test_all_workers_get_something(client: Client, tmp_path: Path) -> None:
    """A short list is spread over the workers."""
    report = await map_all(jobs.meet, [str(tmp_path)] * 8, engine=DaskEngine(client))
    assert len(set(report.values())) == 2


async def test_an_address_is_enough(address: str) -> None:
    """The run connects by itself, and closes its connection."""
    assert (await map_all(jobs.double, [1, 2], engine=DaskEngine(address))).values() == [2, 4]


async def test_the_limit_is_for_each_worker(client: Client, tmp_path: Path) -> None:
    """Two workers with a limit of one run two at once; the tally tells the sum, and what runs."""
    done = tmp_path / "done"
    run = map_all(jobs.counts_neighbours, [str(done)] * 4, limit=1, engine=DaskEngine(client, chunk=2))
    async with started(run) as task:
        await eventually(lambda: (run.tally.limit, run.tally.running) == (2, 2))
        done.touch()
        await task
    assert run.report.values() == [1] * 4


# Cancelling.


async def test_a_cancelled_caller_stops_the_coroutines_on_the_workers(client: Client) -> None:
    """When the run has ended nothing is left on any worker."""
    run = map_all(jobs.never, range(1000), engine=DaskEngine(client, chunk=50))
    async with started(run):
        await eventually(lambda: run.tally.running == run.tally.limit == 200)
        assert all((await client.run(jobs.left_over)).values())
    await ended(client)
    assert len(run.report.pending) == len(run.report)


# Bad jobs.


async def test_a_job_does_not_end_its_worker(near: Client) -> None:
    """SystemExit is a failure of that job: the worker has other jobs, and those of others."""
    report = await map_all(jobs.leave, range(3), engine=DaskEngine(near))
    assert [failure.index for failure in report.failed] == [1]
    assert "SystemExit: 3 (a job does not end its worker)" in str(report.failed[0].error)


async def test_blocking_code_makes_a_cancel_wait(client: Client, tmp_path: Path) -> None:
    """The worker cannot hear of it before the code lets it; nothing is lost."""
    file = tmp_path / "go on"
    run = map_all(jobs.blocks, [str(file)] + [""] * 5, engine=DaskEngine(client))
    async with started(run) as task:
        await eventually(Path(f"{file}.begun").exists)
        task.cancel()
        await eventually(lambda: any(acknowledged(run, Phase.CANCELLED)))  # the other worker
        assert not task.done()
        assert not all(acknowledged(run, Phase.CANCELLED))
        file.touch()
    assert len(run.report) == 6


# What travels.


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("error that cannot be unpickled", "integrations.dask_jobs.StubbornError"),
        ("error that cannot be pickled", "integrations.dask_jobs.UntoldError"),
        ("error that becomes something else", "integrations.dask_jobs.FickleError"),
        ("result that cannot be pickled", "TypeError"),
        ("result that cannot be unpickled", "EOFError"),
    ],
)
async def test_what_cannot_travel_fails_alone(near: Client, kind: str, name: str) -> None:
    """It becomes a failure that keeps the type's name, message and traceback, and harms no other job of its chunk."""
    report = await map_all(jobs.trouble, ["fine", kind, "fine too"], engine=DaskEngine(near))
    assert [success.value for success in report.succeeded] == ["fine", "fine too"]
    (failure,) = report.failed
    assert isinstance(failure.error, RemoteError)
    assert failure.error.type_name == name
    assert isinstance(failure.error.message, str)
    assert failure.error.why in str(failure.error)


async def test_an_error_tells_where_it_was_raised(client: Client) -> None:
    """The worker's address and traceback come as a note."""
    report = await map_all(jobs.odd_fails, [1], engine=DaskEngine(client))
    (note,) = report.failed[0].error.__notes__
    assert note.startswith("raised on the worker tcp://")
    assert "raise BusyError(n)" in note


@pytest.mark.parametrize("inputs", [[1, sys.stdout], (1, sys.stdout)])
def test_an_input_that_cannot_be_pickled_is_refused_at_once(inputs: Any) -> None:
    """Nothing has started: the error names the input."""
    with pytest.raises(TypeError, match="input 1 cannot be pickled"):
        map_all(jobs.trouble, inputs, engine=DaskEngine("tcp://127.0.0.1:1"))


async def test_an_input_of_a_lazy_source_that_cannot_be_pickled(near: Client) -> None:
    """It is known only when it comes: those before finish, and the error names it."""
    inputs: Any = iter(["fine", sys.stdout])
    run = map_all(jobs.trouble, inputs, engine=DaskEngine(near))
    with pytest.raises(TypeError, match="input 1 cannot be pickled"):
        await run
    assert [type(outcome) for outcome in run.report] == [Success]


async def test_a_supervised_function_of_the_main_program_travels(client: Client, near: Client) -> None:
    """So does any that no worker can import: with its code and its policy."""

    @supervise(retry_on=jobs.BusyError, max_retries=1, backoff=Backoff(base=0.0))
    async def busy(n: int) -> None:
        raise jobs.BusyError(n)

    @supervise(retry_on=jobs.BusyError)
    async def outer(n: int) -> None:
        assert jobs.always_busy.policy.max_retries == 2
        await busy(n)

    for cluster in (client, near):
        (failure,) = (await map_all(outer, [1], engine=DaskEngine(cluster))).failed
        assert isinstance(failure.error, jobs.BusyError)
        assert (failure.attempts, failure.reason) == (2, Reason.EXHAUSTED)


def test_a_function_that_cannot_be_pickled_is_refused_at_once() -> None:
    """Nothing has started: the error names the function."""
    lock = asyncio.Event()
    out = sys.stdout

    async def holds_a_file(n: int) -> None:
        print(n, lock, file=out)

    with pytest.raises(TypeError, match="holds_a_file"):
        map_all(holds_a_file, [1], engine=DaskEngine("tcp://127.0.0.1:1"))


# Wrong ways to use it.


async def test_a_synchronous_client_is_refused(address: str) -> None:
    """It belongs to a thread of its own; the error says what to write."""
    with Client(address, set_as_default=False) as client:
        run = map_all(jobs.double, [1], engine=DaskEngine(client))
        with pytest.raises(RuntimeError, match="asynchronous=True"):
            await run


@pytest.mark.parametrize("cluster", [None, 1, Client])
def test_a_cluster_is_a_client_or_an_address(cluster: Any) -> None:
    """Anything else is refused at once."""
    with pytest.raises(TypeError, match="Client or the address"):
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


# Lost workers. Each test has a cluster of its own: it takes long until other processes are there.


@pytest.mark.slow
async def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    """Its jobs are done again elsewhere: every input has one outcome, and the events tell of it."""
    file = tmp_path / "now"
    heard: list[Event] = []
    inputs = [""] * 50 + [str(file)] + [""] * 50
    with two_processes() as cluster:
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            run = map_all(jobs.dies_once, inputs, engine=DaskEngine(client, chunk=10), listen=heard.append)
            async with started(run) as task:
                await eventually(lambda: run.tally.succeeded == 100 and len(sent(run)) == 1)
                file.touch()
                await task
    assert run.report.values() == inputs
    assert [type(event).__name__ for event in heard if not isinstance(event, JobFinished)] == [
        "RunStarted",
        "WorkerLost",
        "RunFinished",
    ]


@pytest.mark.slow
async def test_only_the_killer_fails(tmp_path: Path) -> None:
    """A job that kills every worker it comes to ends as a failure; all others are done."""
    file = tmp_path / "now"
    inputs = [""] * 7 + [str(file)] + [""] * 192
    # Of the chunk, and once more when it is tried alone: each further failure costs the start of a process.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), two_processes() as cluster:
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            run = map_all(jobs.dies, inputs, engine=DaskEngine(client, chunk=10))
            async with started(run) as task:
                await eventually(lambda: run.tally.succeeded == 199 and len(sent(run)) == 1)
                file.touch()
                await task
    assert len(run.report) == 200
    assert [failure.index for failure in run.report.failed] == [7]
    assert {type(failure.error).__name__ for failure in run.report.failed} == {"KilledWorker"}
