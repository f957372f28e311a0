"""Objects that exit when they are pickled or unpickled, and signals that come meanwhile: no job is lost by them."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from aiosupervise import Failure, Pending, Success, map_all
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask import chunk_scheduler
from aiosupervise.integrations._remote import chunk_source, serialization
from aiosupervise.integrations._remote.chunk_source import ChunkSource, WorkerChunk
from aiosupervise.integrations._remote.serialization import contain, outcome_payload, serialize
from aiosupervise.integrations._remote.worker_run import WorkerRun
from aiosupervise.integrations._remote.worker_runs import check_config
from aiosupervise.integrations.dask import DaskEngine, RemoteError

from . import dask_jobs as jobs

every_exit = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])


class SignalError(BaseException):
    """What a signal handler raises. Unlike KeyboardInterrupt it may end a task without ending the event loop."""


@pytest.fixture(autouse=True)
def _forget_all() -> None:
    """Close the gates of the jobs, and forget what they noted."""
    jobs.forget_all()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a cluster that is all in this process and loop."""
    settings: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    async with (
        LocalCluster(processes=False, asynchronous=True, **settings) as cluster,
        Client(cluster, asynchronous=True, set_as_default=False) as client,
    ):
        yield client


# Objects.


@every_exit
async def test_an_input_that_exits_on_the_worker_fails_alone(client: Client, kind: type[BaseException]) -> None:
    """It becomes a failure, and neither the worker nor another job ends."""
    inputs: list[Any] = ["fine", jobs.Exiting(kind), "fine too"]
    report = await asyncio.wait_for(map_all(jobs.exiting, inputs, engine=DaskEngine(client)), 30)
    assert [type(outcome) for outcome in report] == [Success, Failure, Success]
    assert str(report.failed[0].error) == (
        f"RuntimeError: it raised {kind.__name__} (the input cannot be unpickled on the worker)"
    )


@every_exit
async def test_a_result_that_exits_on_the_driver_fails_alone(client: Client, kind: type[BaseException]) -> None:
    """It becomes a failure, and the run goes on."""
    report = await asyncio.wait_for(map_all(jobs.exiting, ["fine", kind, "fine too"], engine=DaskEngine(client)), 30)
    assert [type(outcome) for outcome in report] == [Success, Failure, Success]
    assert (
        str(report.failed[0].error) == f"RuntimeError: it raised {kind.__name__} (the result cannot be unpickled here)"
    )


@pytest.mark.parametrize("given", ["result", "error"])
async def test_a_result_or_an_error_that_exits_on_the_worker_fails_alone(client: Client, given: str) -> None:
    """A RemoteError replaces an error that cannot be pickled."""
    report = await asyncio.wait_for(map_all(jobs.exiting, ["fine", given], engine=DaskEngine(client)), 30)
    assert [type(outcome) for outcome in report] == [Success, Failure]
    error = report.failed[0].error
    assert isinstance(error, RemoteError)
    assert "cannot be pickled" in error.why


async def test_an_input_that_exits_on_the_driver_is_refused(client: Client) -> None:
    """Of a list at once, and of another source when it is pulled."""
    item = jobs.Exiting(SystemExit, when="pickled")
    with pytest.raises(TypeError, match=r"input 1 cannot be pickled.*it raised SystemExit"):
        map_all(jobs.exiting, ["fine", item], engine=DaskEngine(client))
    run = map_all(jobs.exiting, iter(["fine", item]), engine=DaskEngine(client))
    with pytest.raises(TypeError, match=r"input 1 cannot be pickled.*it raised SystemExit"):
        await asyncio.wait_for(run, 30)
    assert [type(outcome) for outcome in run.report] == [Success]


async def test_a_function_that_exits_on_the_driver_is_refused(client: Client) -> None:
    """As one that cannot be pickled."""
    func: Any = jobs.Exiting(SystemExit, when="pickled")
    type(func).__call__ = jobs.double
    try:
        with pytest.raises(
            TypeError, match="cannot be pickled, so it cannot be sent to a worker: RuntimeError: it raised"
        ):
            DaskEngine(client).check(func, [])
    finally:
        del type(func).__call__


async def test_a_function_that_exits_on_the_worker_ends_the_run(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run raises before any job starts."""
    monkeypatch.setattr(chunk_scheduler, "serialize", lambda _: pickle.dumps(jobs.Exiting(SystemExit)))
    run = map_all(jobs.double, [1], engine=DaskEngine(client))
    with pytest.raises(RuntimeError, match=r"cannot unpickle double.*it raised SystemExit"):
        await asyncio.wait_for(run, 30)
    assert [type(outcome) for outcome in run.report] == [Pending]


def test_settings_whose_error_cannot_be_printed_are_described() -> None:
    """The check replies whatever the function raises."""
    assert (
        check_config(pickle.dumps(jobs.Exiting(jobs.ExitingError))) == "ExitingError: an error that cannot be printed"
    )


def test_an_error_that_exits_is_described() -> None:
    """Whatever is read of it raises."""
    _, data, description, *_ = outcome_payload(0, Failure(0, jobs.ExitingError(), 1, 0.0, None))
    assert data is None
    assert description is not None
    assert (description.message, description.notes) == ("an error that cannot be printed", ())
    assert description.why == "it cannot be pickled: RuntimeError: it raised SystemExit"


def test_an_error_that_exits_when_it_gets_its_notes_is_stood_for() -> None:
    """The error that stands for it has them."""

    class NoNotesError(Exception):
        @property
        def __notes__(self) -> list[str]:
            return []

        @__notes__.setter
        def __notes__(self, _: object) -> None:
            raise SystemExit

    _, data, description, *_ = outcome_payload(0, Failure(0, NoNotesError(), 1, 0.0, None))
    assert description is not None
    error = serialization.load_error(data, description, "tcp://worker")
    assert isinstance(error, RemoteError)
    assert error.why == "it takes no notes"


# Signals: the second try succeeds, so the exception was not the object's own.


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("polled", [True, False])
async def test_a_signal_while_a_result_is_unpickled_ends_the_run(
    client: Client, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, *, polled: bool
) -> None:
    """The run raises it, the result is kept, and the running jobs are cancelled."""
    if not polled:
        monkeypatch.setattr("aiosupervise.integrations._dask.poller._INTERVAL", 3600.0)
    jobs.signals.append(kind())
    jobs.events["open"].set()
    run = map_all(jobs.interrupted, [0, 1] if polled else [0], engine=DaskEngine(client, chunk=2))
    # Not with wait_for, which has a task of its own in Python 3.11: out of a task, these errors end the loop.
    with pytest.raises(kind):
        async with asyncio.timeout(30):
            await run
    assert [outcome.value for outcome in run.report.succeeded] == ["arrived"]
    assert [outcome.index for outcome in run.report.pending] == ([1] if polled else [])
    assert not jobs.signals


async def test_a_signal_while_an_input_is_unpickled_loses_no_job() -> None:
    """The input is still there, and becomes pending with the others."""
    source, chunk = ChunkSource(), WorkerChunk(2)
    source.add(chunk, [serialize(jobs.Interrupted()), serialize("b")])
    jobs.signals.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        await anext(source)
    assert not chunk.all_started.is_set()
    source.record_pending()
    assert [(payload[0], payload[-1]) for payload in chunk.payloads] == [(0, False), (1, False)]


async def test_a_signal_while_an_outcome_is_packed_loses_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker run ends, and each job without an outcome is pending: no chunk waits for ever."""

    def interrupted(*_: object) -> None:
        raise SignalError

    monkeypatch.setattr(chunk_source, "outcome_payload", interrupted)
    run = WorkerRun(EngineConfig(jobs.double, "double", 2, None), pytest.fail)
    payloads = await asyncio.wait_for(run.run_chunk("chunk", [serialize(1), serialize(2)], lambda: None), 30)
    assert sorted(payload[0] for payload in payloads) == [0, 1]
    assert {payload[1:3] for payload in payloads} == {(None, None)}
    await run.close()
    assert isinstance(run._task.exception(), SignalError)


def test_an_exception_that_comes_twice_is_the_objects_own() -> None:
    """Only then it is replaced; an error of the second try is raised as it is, and an Exception is not tried again."""
    tries: list[str] = []

    def raises(*errors: BaseException) -> Any:
        left = list(errors)

        def func(given: str) -> str:
            tries.append(given)
            if left:
                raise left.pop(0)
            return given

        return func

    assert contain(raises(), "x") == "x"
    for errors, raised, count in [
        ((LookupError("x"),), LookupError, 1),
        ((SystemExit(),), SystemExit, 2),
        ((SystemExit(), KeyboardInterrupt()), KeyboardInterrupt, 2),
        ((SystemExit(), LookupError("x")), LookupError, 2),
    ]:
        tries.clear()
        with pytest.raises(raised):
            contain(raises(*errors), "x")
        assert tries == ["x"] * count
    with pytest.raises(RuntimeError, match=r"^it raised SystemExit$") as own:
        contain(raises(SystemExit(), SystemExit()), "x")
    assert isinstance(own.value.__cause__, SystemExit)
