"""Batches on two worker processes: what a cluster in the process of the tests cannot show."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from aiosupervise import Backoff, Event, JobFinished, Reason, map_all, policy_of, supervise
from aiosupervise.integrations._remote.messages import Phase
from aiosupervise.integrations.dask import DaskEngine

from . import dask_jobs as jobs
from .dask_runs import acknowledged, sent, started, two_processes
from .eventually import eventually

pytestmark = pytest.mark.slow  # processes take seconds to start


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


async def test_a_short_list_is_spread_over_the_workers(client: Client, tmp_path: Path) -> None:
    """Its chunks are small enough for that."""
    report = await map_all(jobs.meet, [str(tmp_path)] * 8, engine=DaskEngine(client))
    assert len(set(report.values())) == 2


async def test_an_address_is_enough(address: str) -> None:
    """The run connects by itself, and disconnects."""
    assert (await map_all(jobs.double, [1, 2], engine=DaskEngine(address))).values() == [2, 4]


async def test_the_limit_is_for_each_worker(client: Client, tmp_path: Path) -> None:
    """Two workers with a limit of one run two jobs at a time; the tally has the sums of limits and running jobs."""
    done = tmp_path / "done"
    run = map_all(jobs.counts_neighbours, [str(done)] * 4, limit=1, engine=DaskEngine(client, chunk=2))
    async with started(run) as task:
        await eventually(lambda: (run.tally.limit, run.tally.running) == (2, 2))
        done.touch()
        await task
    assert run.report.values() == [1] * 4


async def ended(client: Client) -> None:
    """Check that no worker has anything left of a run."""
    left = await client.run(jobs.left_over)
    assert not any(left.values())


async def test_a_cancelled_caller_stops_the_coroutines_on_the_workers(client: Client) -> None:
    """When the run has ended, nothing of it is left on any worker."""
    run = map_all(jobs.never, range(1000), engine=DaskEngine(client, chunk=50))
    async with started(run):
        await eventually(lambda: run.tally.running == run.tally.limit == 200)
        assert all((await client.run(jobs.left_over)).values())
    await ended(client)
    assert len(run.report.pending) == len(run.report)


async def test_blocking_code_makes_a_cancel_wait(client: Client, tmp_path: Path) -> None:
    """The worker learns of it when its loop is free again; no outcome is lost."""
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


async def test_an_error_has_a_note_of_its_worker_and_its_traceback(client: Client) -> None:
    """So that the line that raised it is found."""
    report = await map_all(jobs.odd_fails, [1], engine=DaskEngine(client))
    (note,) = report.failed[0].error.__notes__
    assert note.startswith("raised on the worker tcp://")
    assert "raise BusyError(n)" in note


async def test_a_supervised_function_of_the_main_program_can_be_sent(client: Client) -> None:
    """A function that no worker can import is sent with its code and its policy."""

    @supervise(retry_on=jobs.BusyError, max_retries=1, backoff=Backoff(base=0.0))
    async def busy(n: int) -> None:
        raise jobs.BusyError(n)

    @supervise(retry_on=jobs.BusyError)
    async def outer(n: int) -> None:
        assert policy_of(jobs.always_busy).max_retries == 2
        await busy(n)

    (failure,) = (await map_all(outer, [1], engine=DaskEngine(client))).failed
    assert isinstance(failure.error, jobs.BusyError)
    assert (failure.attempts, failure.reason) == (2, Reason.EXHAUSTED)


# Lost workers. Each test has a cluster of its own: other processes take long to start.


async def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    """Its jobs run again elsewhere: every input has one outcome, and an event reports the loss."""
    file = tmp_path / "now"
    emitted: list[Event] = []
    inputs = [""] * 50 + [str(file)] + [""] * 50
    with two_processes() as cluster:
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            run = map_all(jobs.dies_once, inputs, engine=DaskEngine(client, chunk=10), listen=emitted.append)
            async with started(run) as task:
                await eventually(lambda: run.tally.succeeded == 100 and len(sent(run)) == 1)
                file.touch()
                await task
    assert run.report.values() == inputs
    assert [type(event).__name__ for event in emitted if not isinstance(event, JobFinished)] == [
        "RunStarted",
        "WorkerLost",
        "RunFinished",
    ]


async def test_only_the_killer_fails(tmp_path: Path) -> None:
    """A job that kills every worker it runs on ends as a failure; all others succeed."""
    file = tmp_path / "now"
    inputs = [""] * 7 + [str(file)] + [""] * 192
    # One worker dies with the chunk, and one when it is retried alone: each further failure costs a start of a process.
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
