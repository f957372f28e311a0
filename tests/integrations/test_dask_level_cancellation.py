"""Level cancellation of a run on a cluster: whoever is cancelled on every turn of the loop gets control back."""

import asyncio
from typing import Any

import anyio
import pytest
from distributed import Client, LocalCluster

from aiosupervise import map_all
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask import poller, worker
from aiosupervise.integrations._dask.shielded import wait_shielded
from aiosupervise.integrations._remote.serialization import serialize
from aiosupervise.integrations._remote.worker_run import WorkerRun
from aiosupervise.integrations.dask import DaskEngine

from . import dask_jobs as jobs
from .dask_runs import finish, ours
from .eventually import eventually


@pytest.fixture(autouse=True)
def _forget_all() -> None:
    """Close the gates of the jobs, and forget what they noted."""
    jobs.forget_all()


def pump_of(run: Any) -> "asyncio.Task[None]":
    """Return the task of a run."""
    task: asyncio.Task[None] = run._pump._task
    return task


async def press(task: "asyncio.Task[Any]", *, within: float = 30.0) -> None:
    """Cancel a task on every turn of the loop until it is done."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not task.done():
        assert loop.time() < deadline, "control does not come back"
        task.cancel()
        await asyncio.sleep(0)


def nothing_is_left(cluster: LocalCluster) -> None:
    """Check that nothing of a run is left, in the driver or on the worker."""
    assert not ours()
    assert worker._runs[cluster.workers[0]]._active == {}


@pytest.mark.parametrize("pressed", ["caller", "pump"])
@pytest.mark.parametrize("strategy", ["gather", "as_completed"])
async def test_a_running_run(cluster: LocalCluster, client: Client, pressed: str, strategy: Any) -> None:
    """The jobs on the worker clean up, and the worker closes the run, whichever task of the driver is cancelled."""
    jobs.events["clean"].set()
    run = map_all(jobs.cleans_up, range(5), strategy=strategy, engine=DaskEngine(client))
    task = asyncio.create_task(finish(run) if strategy == "gather" else stream(run))
    await eventually(lambda: len(jobs.begun) == 5)
    await press(task if pressed == "caller" else pump_of(run))
    await asyncio.wait([task])
    assert task.cancelled() or pressed == "pump"
    assert sorted(map(str, jobs.cleaned)) == list("01234")
    assert run.tally.pending == 5
    nothing_is_left(cluster)


async def stream(run: Any) -> None:
    """Read the outcomes of a run as they come."""
    async with run:
        async for _ in run:
            pass


async def test_a_cancel_scope_of_anyio(cluster: LocalCluster, client: Client) -> None:
    """The scope ends when the worker has closed the run, takes its cancels back, and the caller goes on."""
    jobs.events["clean"].set()

    async def caller() -> None:
        with anyio.CancelScope() as scope:
            begun = asyncio.ensure_future(eventually(lambda: len(jobs.begun) == 5))
            begun.add_done_callback(lambda _: scope.cancel())
            await map_all(jobs.cleans_up, range(5), engine=DaskEngine(client))
        assert scope.cancelled_caught
        assert len(jobs.cleaned) == 5
        await asyncio.sleep(0)

    task = asyncio.create_task(caller())
    await asyncio.wait_for(task, 30)
    assert task.cancelling() == 0
    nothing_is_left(cluster)


@pytest.mark.parametrize("pressed", ["caller", "pump"])
@pytest.mark.parametrize("answers", [True, False])
async def test_a_run_that_is_being_opened(pressed: str, monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    """The attempt to connect is cancelled once, and waited for; its error is not of interest."""
    left: list[str] = []
    unraisable: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unraisable.append(context))

    async def connect(_: DaskEngine) -> None:
        try:
            jobs.begun.append("connecting")
            await asyncio.Event().wait()
        finally:
            for _turn in range(10):
                await asyncio.sleep(0)
            left.append("in order")
            if answers:
                raise OSError("no cluster")

    monkeypatch.setattr(DaskEngine, "connect", connect)
    run = map_all(jobs.double, [1, 2], engine=DaskEngine("tcp://127.0.0.1:1"))
    task = asyncio.create_task(finish(run))
    await eventually(lambda: jobs.begun)
    await press(task if pressed == "caller" else pump_of(run))
    await asyncio.wait([task])
    assert left == ["in order"]
    assert len(run.report.pending) == 2
    assert not ours()
    del run, task
    assert unraisable == []


@pytest.mark.parametrize(
    ("step", "by"), [("workers", "hand"), ("runs", "hand"), ("client", "hand"), ("workers", "the end of the loop")]
)
async def test_a_run_that_is_being_closed(
    cluster: LocalCluster, step: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is taken: the worker closes the run, and the run's own client is closed."""
    clients = note_closing(monkeypatch)
    run = map_all(jobs.double, [1, 2], engine=DaskEngine(cluster.scheduler_address))
    task = asyncio.create_task(finish(run))
    while step not in jobs.begun:  # noqa: ASYNC110 - at once
        await asyncio.sleep(0)
    if by == "hand":
        await press(pump_of(run))
    for other in [task, *ours()]:
        if "on a worker" not in other.get_name():  # that is in another process, but for this test
            other.cancel()
    await asyncio.wait([task])
    assert run.report.values() == [2, 4]
    assert jobs.cleaned == ["runs"]
    assert [client.status for client in clients] == ["closed"]
    nothing_is_left(cluster)


def note_closing(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Note when the driver begins to close each part of a run; return the clients that it makes."""
    clients: list[Client] = []
    real_connect, real_disconnect = DaskEngine.connect, DaskEngine.disconnect
    real_close, real_poller = worker.close_run, poller.Poller.close

    async def connect(engine: DaskEngine) -> Client:
        clients.append(await real_connect(engine))
        return clients[0]

    async def close_poller(self: poller.Poller, client: Client) -> None:
        jobs.begun.append("workers")
        await real_poller(self, client)

    async def close(run_id: str, dask_worker: Any) -> None:
        jobs.begun.append("runs")
        await real_close(run_id, dask_worker)
        jobs.cleaned.append("runs")

    async def disconnect(engine: DaskEngine, client: Client) -> None:
        jobs.begun.append("client")
        await real_disconnect(engine, client)

    monkeypatch.setattr(DaskEngine, "connect", connect)
    monkeypatch.setattr(DaskEngine, "disconnect", disconnect)
    monkeypatch.setattr(poller.Poller, "close", close_poller)
    monkeypatch.setattr("aiosupervise.integrations._dask.poller.close_run", close)
    return clients


async def test_a_client_of_the_user_that_is_being_started(cluster: LocalCluster) -> None:
    """A run that is cancelled while it waits for the client does not cancel its start."""
    client = Client(cluster, asynchronous=True, set_as_default=False)
    task = asyncio.create_task(finish(map_all(jobs.double, [1], engine=DaskEngine(client))))
    for _ in range(3):
        await asyncio.sleep(0)
    assert client.status == "connecting"
    await press(task)
    async with client:
        assert (await map_all(jobs.double, [1], engine=DaskEngine(client))).values() == [2]


async def test_a_client_of_the_run_that_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed before the run returns, however often the task that connects is cancelled."""
    started: list[Client] = []

    class Watched(Client):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]  # it has types, with gaps
            started.append(self)

    monkeypatch.setattr("aiosupervise.integrations.dask.Client", Watched)
    opening = asyncio.create_task(DaskEngine("tcp://127.0.0.1:1").connect())
    await eventually(lambda: started)
    await press(opening)
    assert [client.status for client in started] == ["closed"]


async def test_a_worker_that_closes_a_run() -> None:
    """The call that closes the run returns when the jobs have cleaned up."""
    run = WorkerRun(EngineConfig(jobs.cleans_up, "work", None, None), pytest.fail)
    chunk = asyncio.create_task(run.run_chunk("chunk", [serialize(1)], lambda: None))
    await eventually(lambda: jobs.begun)
    jobs.events["clean"].set()
    closing = asyncio.create_task(run.close())
    await asyncio.sleep(0)
    await press(closing)
    assert jobs.cleaned == [1]
    assert (await chunk)[0][-1]


# The wait itself.


async def test_a_shielded_wait_returns_on_the_turn_after_the_last_task() -> None:
    """Though its caller is cancelled on every turn; nothing is raised."""
    turn = 0
    turns: list[int] = []

    async def work(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
        turns.append(turn)

    async def caller() -> None:
        await wait_shielded([asyncio.ensure_future(work(count)) for count in (3, 7)], 3600.0)
        turns.append(turn)

    waiting = asyncio.ensure_future(caller())
    while not waiting.done():
        await asyncio.sleep(0)
        turn += 1
        waiting.cancel()
    assert len(turns) == 3
    assert turns[2] - turns[1] <= 1
    assert not waiting.cancelled()


@pytest.mark.looptime
@pytest.mark.parametrize("often", [True, False])
async def test_a_shielded_wait_has_an_end(*, often: bool) -> None:
    """Tasks that are not done after the given time are left alone, and no task is no wait."""
    never = asyncio.ensure_future(asyncio.Event().wait())
    loop = asyncio.get_running_loop()
    begun = loop.time()
    waiting = asyncio.ensure_future(wait_shielded([never], 5.0))
    while often and not waiting.done():
        await asyncio.sleep(0.01)
        waiting.cancel()
    await waiting
    assert loop.time() - begun == pytest.approx(5.0, abs=0.02)
    assert not never.done()
    never.cancel()
    await wait_shielded([], 5.0)
