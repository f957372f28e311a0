"""The worker's half of a run, called as an engine calls it: most of it without a cluster."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiosupervise import Adaptive, Backoff, Budget, Overload, Reason, Success, supervise
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask import worker
from aiosupervise.integrations._remote import worker_run, worker_runs
from aiosupervise.integrations._remote.chunk_source import ChunkSource, WorkerChunk
from aiosupervise.integrations._remote.messages import ChunkResult, Phase, PollReply
from aiosupervise.integrations._remote.serialization import (
    OutcomePayload,
    RemoteError,
    deserialize,
    load_error,
    serialize,
)
from aiosupervise.integrations._remote.worker_run import LEASE, WorkerRun
from aiosupervise.integrations._remote.worker_runs import WorkerRuns, check_config

from . import dask_jobs as jobs

pytestmark = pytest.mark.looptime
PENDING, STARTED = (None, None, False), (None, None, True)  # value, description of the error, whether it had started


@pytest.fixture(autouse=True)
def _forget_all() -> None:
    """Close the gates of the jobs, and forget what they noted."""
    jobs.forget_all()


def config(func: Callable[..., Awaitable[object]] = jobs.gate, **settings: Any) -> EngineConfig[Any, Any]:
    """The settings of a run."""
    return EngineConfig(func, "work", **{"limit": None, "overload": None} | settings)


def serialized(*inputs: object) -> list[bytes]:
    """Return the inputs as they are sent."""
    return [serialize(item) for item in inputs]


def ends(payloads: list[OutcomePayload]) -> dict[int, tuple[object, object, bool]]:
    """By position: the value, the type of the error, and whether the job had started."""
    return {
        position: (None if data is None else deserialize(data), description and description.type_name, started)
        for position, data, description, _, _, _, started in payloads
    }


class Here:
    """A worker run, the chunks that were started in it, and the chunks all of whose jobs have started."""

    def __init__(self, func: Callable[..., Awaitable[object]] = jobs.gate, **settings: Any) -> None:
        self.expired: list[str] = []
        self.all_started: list[str] = []
        self.run = WorkerRun(config(func, **settings), self.expired.append)

    def start(self, key: str, *inputs: object) -> "asyncio.Task[list[OutcomePayload]]":
        """Start a chunk."""
        return asyncio.create_task(self.run.run_chunk(key, serialized(*inputs), lambda: self.all_started.append(key)))


def nothing() -> None:
    """Be called when all jobs of a chunk have started."""


async def settle() -> None:
    """Let every task do what it can do now."""
    await asyncio.sleep(1e-6)


# A worker run.


async def test_a_chunk_returns_an_outcome_for_each_of_its_jobs_as_they_end() -> None:
    """They come in the order in which the jobs end; their positions identify the inputs."""
    here = Here(jobs.gate_for_all_but_0)
    chunk = here.start("chunk", 1, 0, 2)
    await settle()
    assert jobs.begun == [1, 2]
    jobs.events["open"].set()
    assert [(payload[0], deserialize(payload[1] or b"")) for payload in await chunk] == [(1, 0), (0, 1), (2, 2)]
    await here.run.close()


async def test_the_limit_is_for_all_chunks_of_the_worker_together() -> None:
    """A second chunk does not start jobs beside a first one that has filled the limit."""
    here = Here(limit=2)
    chunks = [here.start("first", 1, 2), here.start("second", 3)]
    await settle()
    assert jobs.begun == [1, 2]
    assert (here.run.poll(Phase.RUNNING).running, here.run.poll(Phase.RUNNING).limit) == (2, 2)
    jobs.events["open"].set()
    assert [list(ends(await chunk)) for chunk in chunks] == [[0, 1], [0]]
    await here.run.close()


async def test_the_limit_and_the_overload_protection_are_those_of_the_run() -> None:
    """An adaptive limit and a pause are the worker's own, and its replies show both."""
    here = Here(
        jobs.hopeless,
        limit=Adaptive(start=3),
        overload=Overload(Budget(capacity=1), first_pause=3600.0, longest_pause=3600.0),
    )
    chunk = here.start("chunk", 1, 2)
    await asyncio.sleep(1)
    reply = here.run.poll(Phase.RUNNING)
    assert reply.limit == 3
    assert "paused" in reply.status
    await here.run.close()
    assert ends(await chunk) == {0: STARTED, 1: STARTED}


async def test_the_next_chunk_may_begin_when_all_jobs_of_one_have_started() -> None:
    """A chunk calls back once, when its last job has started, if jobs of it are running then."""
    here = Here(limit=2)
    chunk = here.start("chunk", 1, 2, 3)
    await settle()
    assert (len(jobs.begun), here.all_started) == (2, [])
    jobs.events["open"].set()
    await chunk
    assert (len(jobs.begun), here.all_started) == (3, ["chunk"])
    await here.run.run_chunk("nothing that runs", [b"no pickle"], lambda: here.all_started.append("nothing"))
    assert here.all_started == ["chunk"]
    await here.run.close()


async def test_a_reply_has_only_what_no_earlier_reply_had() -> None:
    """The result of the chunk has everything again."""
    here = Here(jobs.gate_for_all_but_0)
    chunk = here.start("chunk", 0, 1)
    await settle()
    first, second = here.run.poll(Phase.RUNNING), here.run.poll(Phase.RUNNING)
    assert ends(first.chunks["chunk"]) == {0: (0, None, True)}
    assert second.chunks == {"chunk": []}
    assert (first.running, first.limit, first.status) == (1, None, "")
    jobs.events["open"].set()
    assert sorted(ends(await chunk)) == [0, 1]
    assert here.run.poll(Phase.RUNNING) == PollReply(0, None, "", {})
    await here.run.close()


async def test_a_stop_lets_running_jobs_finish() -> None:
    """The others are pending, and have not started."""
    here = Here(limit=1)
    chunk = here.start("chunk", 1, 2)
    await settle()
    here.run.poll(Phase.STOPPED)
    await settle()
    jobs.events["open"].set()
    assert ends(await chunk) == {0: (1, None, True), 1: PENDING}
    assert here.run.stopped == ""
    await here.run.close()


async def test_a_cancel_cancels_running_jobs() -> None:
    """They are pending, and have started; a later poll with an earlier phase changes nothing."""
    here = Here(limit=1)
    chunk = here.start("chunk", 1, 2)
    await settle()
    here.run.poll(Phase.CANCELLED)
    here.run.poll(Phase.STOPPED)
    assert ends(await chunk) == {0: STARTED, 1: PENDING}
    assert (here.run.stopped, here.run.expired) == ("", "")
    await here.run.close()


async def test_an_outcome_that_comes_with_the_cancel_counts() -> None:
    """A job that fails while it cleans up has failed, although the run is not read any more."""

    async def fails_late(_: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("too late")

    here = Here(fails_late)
    chunk = here.start("chunk", 1)
    await settle()
    here.run.poll(Phase.CANCELLED)
    ((_, _, description, attempts, *_),) = await chunk
    assert description is not None
    assert (description.type_name, attempts) == ("LookupError", 1)
    await here.run.close()


async def test_a_stop_that_comes_at_once() -> None:
    """A run that has not begun to pull can be stopped all the same."""
    here = Here()
    chunk = here.start("chunk", 1)
    here.run.poll(Phase.STOPPED)
    assert ends(await chunk) == {0: PENDING}
    await here.run.close()


async def test_a_chunk_that_arrives_when_the_worker_run_has_stopped_starts_nothing() -> None:
    """Its jobs are pending."""
    here = Here(jobs.double, limit=1)
    here.run.poll(Phase.STOPPED)
    await settle()
    assert ends(await here.start("late", 1)) == {0: PENDING}
    assert here.run.poll(Phase.STOPPED).chunks == {"late": []}
    await here.run.close()


async def test_closing_waits_until_the_jobs_have_ended() -> None:
    """Jobs that are cancelled may take their time to clean up."""
    here = Here(jobs.cleans_up)
    chunk = here.start("chunk", 1)
    await settle()
    closing = asyncio.create_task(here.run.close())
    await settle()
    assert (jobs.cleaning, closing.done()) == ([1], False)
    jobs.events["clean"].set()
    await closing
    assert jobs.cleaned == [1]
    assert ends(await chunk) == {0: STARTED}


async def test_a_job_does_not_end_its_worker() -> None:
    """SystemExit and KeyboardInterrupt are failures of the job; other errors, and results, pass unchanged."""

    async def leaves(error: object) -> object:
        if isinstance(error, BaseException):
            raise error
        return error

    here = Here(leaves)
    chunk = await here.start("chunk", SystemExit(3), KeyboardInterrupt(), LookupError("x"), "fine")
    assert {
        position: (value if isinstance(value, str) else type(value), kind)
        for position, (value, kind, _) in ends(chunk).items()
    } == {
        0: (RemoteError, f"{RemoteError.__module__}.RemoteError"),
        1: (RemoteError, f"{RemoteError.__module__}.RemoteError"),
        2: (LookupError, "LookupError"),
        3: ("fine", None),
    }
    assert "SystemExit: 3 (a job must not end its worker)" in str(ends(chunk)[0][0])
    await here.run.close()


async def test_a_worker_that_gives_up_says_why() -> None:
    """When its probes have failed the run ends here: unfinished jobs are pending, and the next reply has the reason."""
    overload = Overload(Budget(capacity=1), first_pause=1.0, longest_pause=1.0, probes=1)
    here = Here(jobs.hopeless, limit=1, overload=overload)
    chunk = ends(await here.start("chunk", *range(20)))
    assert len(chunk) == 20
    assert PENDING in chunk.values()
    assert "stopped" in here.run.stopped
    assert here.run.poll(Phase.RUNNING).status == here.run.stopped
    assert here.run.expired == ""
    await here.run.close()


# The lease.


async def test_a_driver_that_does_not_poll_is_gone() -> None:
    """Each poll renews the lease; when it expires the jobs are cancelled, and the reason is known."""
    here = Here()
    chunk = here.start("chunk", 1)
    for _ in range(3):
        await asyncio.sleep(0.9 * LEASE)
        assert not here.expired
        here.run.poll(Phase.RUNNING)
    await asyncio.sleep(0.9 * LEASE)
    assert not chunk.done()
    await asyncio.sleep(0.2 * LEASE)
    assert here.expired == [here.run.expired] == ["has not been polled by the driver for 300 s"]
    assert ends(await chunk) == {0: STARTED}
    assert here.run.stopped == ""


async def test_the_first_poll_must_come_in_time_too() -> None:
    """The lease begins with the run."""
    here = Here()
    await asyncio.sleep(1.1 * LEASE)
    assert here.expired


async def test_a_closed_run_has_no_lease() -> None:
    """The driver of a closed run need not poll."""
    here = Here()
    await here.run.close()
    await asyncio.sleep(2 * LEASE)
    assert here.expired == []


# Which chunks are held.


async def test_a_done_chunk_is_held_when_the_run_ends() -> None:
    """Its result is on its way: else the driver would withdraw it. While the run goes on, nobody asks."""
    here = Here(jobs.double)
    await here.start("done", 1)
    assert here.run.poll(Phase.RUNNING).chunks == {}
    assert here.run.poll(Phase.STOPPED).chunks == {"done": []}
    await here.run.close()


async def test_a_worker_remembers_only_the_last_chunks_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run does not fill its memory, nor its replies."""
    monkeypatch.setattr(worker_run, "_MAX_DONE", 2)
    here = Here(jobs.double)
    for key in "abc":
        await here.start(key, 1)
    assert here.run.poll(Phase.STOPPED).chunks == {"b": [], "c": []}
    await here.run.close()


def test_the_memory_of_a_worker_is_bounded_at_all() -> None:
    """Both bounds are numbers of a size that a worker can hold."""
    assert 100 <= worker_run._MAX_DONE <= 10_000
    assert 100 <= worker_runs._MAX_CLOSED <= 10_000
    assert 60 <= LEASE < math.inf


# The runs of a worker.


async def test_all_chunks_of_a_run_share_its_worker_run() -> None:
    """The first one starts it; another run has one of its own."""
    runs = WorkerRuns("tcp://here")
    settings = serialize(config(limit=1))
    chunks = [
        asyncio.create_task(runs.run_chunk(key, run_id, settings, serialized(key), nothing))
        for key, run_id in [("a", "one"), ("b", "one"), ("c", "two")]
    ]
    await settle()
    assert jobs.begun == ["a", "c"]
    for run_id in "one", "two":
        reply = runs.poll(run_id, Phase.RUNNING)
        assert reply is not None
        assert reply.running == 1
    jobs.events["open"].set()
    results = [await chunk for chunk in chunks]
    assert [(result.worker, result.stopped, result.expired) for result in results] == [("tcp://here", "", "")] * 3
    assert [ends(result.payloads) for result in results] == [{0: (key, None, True)} for key in "abc"]
    await runs.close("one")
    await runs.close("two")


@pytest.mark.parametrize("end", ["close", "stop"])
async def test_a_late_chunk_starts_nothing(end: str) -> None:
    """A worker without a share in a run remembers that it was closed, or stopped."""
    runs = WorkerRuns("tcp://here")
    if end == "close":
        await runs.close("run")
    else:
        assert runs.poll("run", Phase.STOPPED) is None
    result = await runs.run_chunk("late", "run", b"not needed", serialized(1, 2), nothing)
    assert result == ChunkResult(
        "tcp://here", [(0, None, None, 0, 0.0, None, False), (1, None, None, 0, 0.0, None, False)], "", ""
    )


async def test_a_poll_of_an_unknown_run_that_goes_on_closes_nothing() -> None:
    """Its first chunk may be on its way."""
    runs = WorkerRuns("tcp://here")
    assert runs.poll("run", Phase.RUNNING) is None
    result = await runs.run_chunk("first", "run", serialize(config(jobs.double)), serialized(1), nothing)
    assert ends(result.payloads) == {0: (2, None, True)}
    await runs.close("run")


async def test_closing_ends_the_jobs_of_that_run_alone() -> None:
    """It can be done twice, and after it the run is unknown."""
    runs = WorkerRuns("tcp://here")
    settings = serialize(config())
    one, two = (
        asyncio.create_task(runs.run_chunk("a", run_id, settings, serialized(1), nothing)) for run_id in ("1", "2")
    )
    await settle()
    await runs.close("1")
    await runs.close("1")
    assert ends((await one).payloads) == {0: STARTED}
    assert runs.poll("1", Phase.CANCELLED) is None
    assert not two.done()
    await runs.close("2")
    assert ends((await two).payloads) == {0: STARTED}


class DaskWorker:
    """A worker, as far as the registry of its runs needs one."""

    address = "tcp://here"


async def test_closing_a_run_of_a_worker_waits_until_its_jobs_have_ended() -> None:
    """The call through Dask returns when no coroutine of the run is left."""
    dask_worker: Any = DaskWorker()
    runs = worker._runs_of(dask_worker)
    settings = serialize(config(jobs.cleans_up))
    chunk = asyncio.create_task(runs.run_chunk("a", "run", settings, serialized(1), nothing))
    await settle()
    closing = asyncio.create_task(worker.close_run("run", dask_worker))
    await settle()
    assert (jobs.cleaning, closing.done()) == ([1], False)
    jobs.events["clean"].set()
    await closing
    assert jobs.cleaned == [1]
    assert ends((await chunk).payloads) == {0: STARTED}


async def test_a_worker_forgets_a_run_whose_driver_is_gone() -> None:
    """The result of its chunks and of late ones has the reason; a reply keeps the driver from withdrawing the first."""
    runs = WorkerRuns("tcp://here")
    settings = serialize(config())
    chunk = asyncio.create_task(runs.run_chunk("chunk", "run", settings, serialized(1), nothing))
    await asyncio.sleep(1.1 * LEASE)
    result = await chunk
    assert (ends(result.payloads), result.stopped) == ({0: STARTED}, "")
    assert "has not been polled" in result.expired
    assert runs.poll("run", Phase.RUNNING) is None
    assert runs.poll("run", Phase.STOPPED) == PollReply(0, None, "", {"chunk": []})
    late = await runs.run_chunk("late", "run", settings, serialized(1), nothing)
    assert (ends(late.payloads), late.expired) == ({0: PENDING}, result.expired)
    assert runs.poll("run", Phase.STOPPED) == PollReply(0, None, "", {"chunk": []})
    await runs.close("run")
    assert runs.poll("run", Phase.STOPPED) is None


async def test_a_worker_remembers_the_chunks_only_of_the_last_runs_that_it_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of a driver that never came back are forgotten with their run."""
    monkeypatch.setattr(worker_runs, "_MAX_CLOSED", 1)
    runs = WorkerRuns("tcp://here")
    for run_id in "ab":
        await runs.run_chunk(f"chunk of {run_id}", run_id, serialize(config(jobs.double)), serialized(1), nothing)
    await asyncio.sleep(1.1 * LEASE)
    assert runs._abandoned == {"b": ["chunk of b"]}


async def test_a_worker_remembers_only_the_last_runs_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chunk of an older one is on its way any more."""
    monkeypatch.setattr(worker_runs, "_MAX_CLOSED", 2)
    runs = WorkerRuns("tcp://here")
    for run_id in "abcb":
        await runs.close(run_id)
    assert list(runs._closed) == ["b", "c"]


async def test_a_worker_that_has_stopped_by_itself_says_so_with_each_chunk() -> None:
    """The driver ends the run for it."""
    runs = WorkerRuns("tcp://here")
    overload = Overload(Budget(capacity=1), first_pause=1.0, longest_pause=1.0, probes=1)
    settings = serialize(config(jobs.hopeless, limit=1, overload=overload))
    result = await runs.run_chunk("chunk", "run", settings, serialized(*range(5)), nothing)
    assert "stopped" in result.stopped
    await runs.close("run")


def test_settings_that_cannot_be_loaded_are_described() -> None:
    """The text has the type and the message of the error, and is empty if all is well."""
    assert check_config(serialize(config(jobs.double))) == ""
    assert check_config(b"cno_such_module\nwork\n.") == "ModuleNotFoundError: No module named 'no_such_module'"


# The source of a worker run.


async def pull(source: ChunkSource, count: int) -> list[object]:
    """Pull this many inputs."""
    return [await anext(source) for _ in range(count)]


async def test_inputs_of_chunks_are_pulled_one_chunk_after_the_other() -> None:
    """In the order in which they came; when there is none the source waits."""
    source = ChunkSource()
    source.add(WorkerChunk(2), serialized("a", "b"))
    source.add(WorkerChunk(1), serialized("c"))
    assert await pull(source, 3) == ["a", "b", "c"]
    waiting = asyncio.create_task(pull(source, 1))
    await settle()
    assert not waiting.done()
    source.add(WorkerChunk(1), serialized("d"))
    assert await waiting == ["d"]
    assert aiter(source) is source


async def test_an_outcome_belongs_to_the_chunk_of_its_input() -> None:
    """By the index in the worker run, whatever chunks are between."""
    source, first, second = ChunkSource(), WorkerChunk(1), WorkerChunk(2)
    source.add(first, serialized("a"))
    source.add(second, serialized("b", "c"))
    await pull(source, 3)
    for index in 2, 0:
        source.record(Success(index, index, 1, 0.0, "job"))
    assert [payload[0] for payload in second.payloads] == [1]
    assert first.all_done.is_set()
    assert not second.all_done.is_set()


async def test_an_input_that_cannot_be_unpickled_fails_alone() -> None:
    """It counts as a job that has started; the ones after it are pulled."""
    source, chunk = ChunkSource(), WorkerChunk(3)
    source.add(chunk, [*serialized("a"), b"no pickle", *serialized("c")])
    assert await pull(source, 2) == ["a", "c"]
    assert chunk.all_started.is_set()
    ((position, data, description, attempts, elapsed, reason, started),) = chunk.payloads
    assert (position, data, attempts, elapsed, reason, started) == (1, None, 1, 0.0, None, True)
    assert description is not None
    assert "on the worker" in str(load_error(data, description, "tcp://here"))
    source.record(Success(1, "c", 1, 0.0, "job"))
    assert [payload[0] for payload in chunk.payloads] == [1, 2]


async def test_jobs_without_an_outcome_become_pending_whatever_ends_the_worker_run() -> None:
    """Pulled or not: no chunk waits for ever."""
    source, chunk = ChunkSource(), WorkerChunk(2)
    source.add(chunk, serialized(1, 2))
    await pull(source, 1)
    assert not chunk.all_started.is_set()
    source.record_pending()
    assert ends(chunk.payloads) == {0: STARTED, 1: PENDING}
    assert chunk.all_started.is_set()
    assert chunk.all_done.is_set()
    source.record_pending()
    assert len(chunk.payloads) == 2


# Retries.


@supervise(retry_on=jobs.BusyError, max_retries=2, backoff=Backoff(base=0.0))
async def always_busy(n: int) -> None:
    """Use up its retries."""
    raise jobs.BusyError(n)


async def test_the_attempts_of_a_call_and_the_reason_of_its_end_are_reported() -> None:
    """As a run in this process has them in its report."""
    here = Here(always_busy)
    ((_, _, _, attempts, _, reason, started),) = await here.start("chunk", 1)
    assert (attempts, reason, started) == (3, Reason.EXHAUSTED, True)
    await here.run.close()
