"""The driver's polls, with a client that only pretends to reach workers, on virtual time."""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest

from aiosupervise._events.outcomes import Tally
from aiosupervise.engines import EngineConfig
from aiosupervise.integrations._dask import poller as poller_module
from aiosupervise.integrations._dask.poller import Poller
from aiosupervise.integrations._dask.run import DaskRun
from aiosupervise.integrations._dask.worker import close_run, poll_run
from aiosupervise.integrations._remote.messages import Phase, PollReply
from aiosupervise.integrations._remote.serialization import pending_payload
from aiosupervise.integrations._remote.worker_runs import check_config

from . import dask_jobs as jobs

pytestmark = pytest.mark.looptime
INTERVAL = poller_module._INTERVAL
FREE = PollReply(0, 1, "", {})


async def for_ever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


def no_reply(*_: object) -> None:
    """Reply as a worker does that takes no part in the run."""


class FakeClient:
    """A client without workers: it keeps the calls, and replies with what `replies` has for the function."""

    def __init__(self, *workers: str) -> None:
        self.threads = dict.fromkeys(workers, 2)
        self.calls: list[tuple[str, Any]] = []
        self.times: list[float] = []
        self.replies: dict[Any, Callable[..., Any]] = {check_config: lambda _: ""}

    async def nthreads(self) -> dict[str, int]:
        """Return the workers."""
        self.times.append(asyncio.get_running_loop().time())
        return self.threads

    async def run(self, function: Any, *args: Any, workers: list[str], on_error: str) -> dict[str, Any]:
        """Call a function, if there is a fake for it."""
        assert on_error == "return"
        (address,) = workers
        self.calls.append((address, function))
        reply: Any = self.replies.get(function, no_reply)(*args)
        return {address: await reply if asyncio.iscoroutine(reply) else reply}

    def count(self, function: Any) -> int:
        """Return how often a function was called, on any worker."""
        return sum(called is function for _, called in self.calls)


class FakeScheduler:
    """What the poller reads and calls of a chunk scheduler."""

    def __init__(self, limit: int | None = 1) -> None:
        self.context = Mock(config=EngineConfig(jobs.double, "double", limit, None), tally=Tally(None, limit))
        self.config = b"config"
        self.builder = Mock(threads=1)
        self.phase = Phase.RUNNING
        self.unfinished = 100
        self.receive = Mock()
        self.withdraw = Mock()
        self.on_disconnect = Mock()


async def opened(client: Any, scheduler: Any) -> Poller:
    """Open a poller."""
    poller = Poller("run", scheduler)
    await poller.open(client)
    return poller


def our_tasks() -> list[str]:
    """Return the names of the tasks of pollers."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("double ")]


@pytest.mark.parametrize(("workers", "interval"), [(1, 0.105), (2, 0.11), (100, 0.6), (300, 1.6)])
@pytest.mark.usefixtures("untraced")
async def test_the_more_workers_the_longer_is_the_interval(workers: int, interval: float) -> None:
    """Each poll goes through the scheduler, which has other work: 100 workers are polled every 0.6 s."""
    client = FakeClient(*map(str, range(workers)))
    poller: Any = await opened(client, FakeScheduler())
    await asyncio.sleep(10.5 * interval)
    await poller.close(client)
    rounds = client.times[1:-1]  # without those of open and close
    assert [later - earlier for earlier, later in pairwise(rounds)] == pytest.approx([interval] * 10)
    assert client.count(poll_run) == 11 * workers


async def test_a_reply_updates_the_run() -> None:
    """Running jobs and limits are summed up over the workers, and outcomes are handed on."""
    client, scheduler = FakeClient("a", "b"), FakeScheduler(limit=5)
    payloads = [pending_payload(0)]
    replies = iter([PollReply(3, 4, "", {"key": payloads}), PollReply(2, 5, "is paused", {})])
    client.replies[poll_run] = lambda run_id, phase: (run_id, phase) == ("run", 0) and next(replies)
    poller: Any = await opened(client, scheduler)
    assert (scheduler.builder.threads, scheduler.context.tally.limit, scheduler.context.tally.running) == (4, 10, 0)
    scheduler.context.wake.reset_mock()
    await asyncio.sleep(INTERVAL / 2)
    assert (scheduler.context.tally.running, scheduler.context.tally.limit) == (5, 9)
    scheduler.receive.assert_called_once_with("key", "a", payloads)
    scheduler.context.wake.assert_called_with()
    scheduler.withdraw.assert_not_called()
    assert poller.status() == "worker b is paused"
    await poller.close(client)


async def test_a_worker_without_a_limit_adds_nothing_to_the_limit_of_the_run() -> None:
    """Such a worker has already closed its worker run."""
    client, scheduler = FakeClient("a", "b"), FakeScheduler(limit=5)
    replies = iter([PollReply(3, 4, "", {}), PollReply(0, None, "", {})])
    client.replies[poll_run] = lambda *_: next(replies)
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(INTERVAL / 2)
    assert scheduler.context.tally.limit == 4
    await poller.close(client)


async def test_the_names_of_tasks_show_their_purposes() -> None:
    """Each name begins with the name of the run."""
    client = FakeClient("a")
    client.replies = {function: lambda *_: for_ever() for function in (check_config, poll_run, close_run)}
    opening = asyncio.ensure_future(opened(client, FakeScheduler()))
    await asyncio.sleep(1)
    assert our_tasks() == ["double call of a"]
    poller: Any = await opening
    await asyncio.sleep(INTERVAL / 2)
    assert sorted(our_tasks()) == ["double poll of a", "double poller"]
    client.nthreads = for_ever  # type: ignore[assignment,method-assign]  # it never returns
    closing = asyncio.ensure_future(poller.close(client))
    await asyncio.sleep(1)
    assert our_tasks() == ["double last check of the workers"]
    await asyncio.sleep(5)
    assert our_tasks() == ["double call of a"]
    await closing


async def test_the_counts_are_plausible_whatever_workers_reply() -> None:
    """No more jobs run than are unfinished; without a limit the sum is none, and without workers it is that of one."""
    client, scheduler = FakeClient("a"), FakeScheduler(limit=None)
    client.replies[poll_run] = lambda *_: PollReply(500, None, "", {})
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(INTERVAL / 2)
    assert (scheduler.context.tally.running, scheduler.context.tally.limit) == (100, None)
    await poller.close(client)
    nobody, scheduler = FakeClient(), FakeScheduler(limit=7)
    poller = await opened(nobody, scheduler)
    assert (scheduler.builder.threads, scheduler.context.tally.limit, poller.status()) == (1, 7, "")
    await poller.close(nobody)


@pytest.mark.parametrize("phase", [Phase.STOPPED, Phase.CANCELLED])
async def test_chunks_are_withdrawn_when_every_worker_knows_of_the_end(phase: Phase) -> None:
    """Only then no worker begins one any more; those that a worker holds are left to it."""
    client, scheduler = FakeClient("a", "b"), FakeScheduler()
    gate = asyncio.Event()

    async def reply(_: str, phase: int) -> PollReply | None:
        if client.calls[-1][0] == "b" and phase:
            await gate.wait()
        return PollReply(0, 1, "", {"held": []}) if phase else None

    client.replies[poll_run] = reply
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(INTERVAL / 2)
    scheduler.phase = phase
    poller.poll_now()
    await asyncio.sleep(5 * INTERVAL)
    scheduler.withdraw.assert_not_called()
    gate.set()
    await asyncio.sleep(5 * INTERVAL)
    scheduler.withdraw.assert_called_with({"held"})
    client.threads["c"] = 1
    client.replies[poll_run] = lambda *_: for_ever()
    await asyncio.sleep(5 * INTERVAL)
    scheduler.withdraw.reset_mock()
    await asyncio.sleep(5 * INTERVAL)
    scheduler.withdraw.assert_not_called()  # a worker has joined, and has not replied yet
    await poller.close(client)


async def test_a_change_of_phase_is_sent_at_once() -> None:
    """The poller does not wait for the end of the interval, nor for a poll that is under way."""
    client, scheduler = FakeClient("a"), FakeScheduler()
    phases: list[int] = []
    gate = asyncio.Event()

    async def reply(_: str, phase: int) -> PollReply:
        phases.append(phase)
        if phase == 0:
            await gate.wait()
        return FREE

    client.replies[poll_run] = reply
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(INTERVAL / 4)
    scheduler.phase = Phase.STOPPED
    poller.poll_now()
    await asyncio.sleep(INTERVAL / 4)
    assert phases == [0]
    gate.set()
    await asyncio.sleep(INTERVAL / 4)
    assert phases == [0, 1]
    await poller.close(client)


class FakeConnector:
    """A connector that returns a given client."""

    def __init__(self, client: FakeClient) -> None:
        self.client = client

    async def connect(self) -> Any:
        """Return the client."""
        return self.client

    async def disconnect(self, _: object) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "end", [DaskRun.stop, partial(DaskRun.cancel, already_cancelled=False)], ids=["stop", "cancel"]
)
async def test_a_stop_or_a_cancel_that_is_repeated_is_sent_once(end: Callable[[DaskRun], None]) -> None:
    """A caller that cancels the run in every iteration of the loop does not flood the cluster with polls."""
    client = FakeClient("a")
    run = DaskRun(FakeScheduler().context, FakeConnector(client), 10)
    await run.open()
    await asyncio.sleep(INTERVAL / 2)
    for _ in range(9):
        end(run)
        await asyncio.sleep(INTERVAL / 100)
    assert client.count(poll_run) == 2
    await run.close()


async def test_a_poll_without_a_reply_is_repeated() -> None:
    """Not with every interval, for the worker may be blocked, and not never, for the reply may be lost."""
    client, scheduler = FakeClient("deaf", "b"), FakeScheduler()

    async def reply(*_: object) -> PollReply:
        if client.calls[-1][0] == "deaf":
            await for_ever()
        return FREE

    client.replies[poll_run] = reply
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(100)
    assert [address for address, function in client.calls if function is poll_run].count("deaf") == 4
    assert client.calls.count(("b", poll_run)) > 500
    await poller.close(client)
    assert not our_tasks()


async def test_a_poll_that_fails_is_repeated_with_the_next_interval() -> None:
    """And what the worker replied before still counts."""
    client, scheduler = FakeClient("a"), FakeScheduler(limit=5)
    replies = iter([PollReply(3, 4, "", {}), OSError("lost"), OSError("lost")])
    client.replies[poll_run] = lambda *_: next(replies)
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(2.9 * INTERVAL)
    assert (scheduler.context.tally.running, scheduler.context.tally.limit) == (3, 4)
    assert client.count(poll_run) == 3
    await poller.close(client)


async def test_a_busy_scheduler_does_not_end_the_run() -> None:
    """The known workers are polled while it does not say which there are; an error of it does end the run."""
    client, scheduler = FakeClient("a"), FakeScheduler()
    poller: Any = await opened(client, scheduler)
    client.nthreads = for_ever  # type: ignore[assignment,method-assign]  # it never returns
    await asyncio.sleep(60)
    assert client.count(poll_run) > 5
    scheduler.on_disconnect.assert_not_called()
    client.nthreads = Mock(side_effect=OSError("no answer"))  # type: ignore[method-assign]
    await asyncio.sleep(10)
    assert str(scheduler.on_disconnect.call_args.args[0]) == "no answer"
    await poller.close(client)


async def test_a_worker_that_is_gone_is_forgotten() -> None:
    """Its last reply counts no more, and nobody waits for it to know of the end."""
    client, scheduler = FakeClient("a", "b"), FakeScheduler(limit=1)
    client.replies[poll_run] = lambda *_: PollReply(1, 1, "is paused", {})
    poller: Any = await opened(client, scheduler)
    await asyncio.sleep(INTERVAL / 2)
    assert scheduler.context.tally.running == 2
    del client.threads["a"]
    await asyncio.sleep(2 * INTERVAL)
    assert (scheduler.context.tally.running, scheduler.context.tally.limit) == (1, 1)
    assert poller.status() == "worker b is paused"
    await poller.close(client)


@pytest.mark.parametrize("problem", ["ImportError: no", ImportError("no")])
async def test_workers_that_cannot_load_the_function_end_the_run(problem: Any) -> None:
    """The error says what to install; a worker that is just lost is not asked."""
    client = FakeClient("a", "b")
    replies = iter([OSError("lost"), problem])
    client.replies[check_config] = lambda config: config == b"config" and next(replies)
    with pytest.raises(
        RuntimeError, match=r"cannot unpickle double: are its module and aiosupervise.*\? ImportError: no$"
    ):
        await opened(client, FakeScheduler())
    assert client.count(check_config) == 2


async def test_a_worker_that_does_not_reply_at_the_start_is_not_waited_for_long() -> None:
    """It is polled like the others."""
    client = FakeClient("deaf", "b")
    client.replies[check_config] = lambda *_: for_ever()
    loop = asyncio.get_running_loop()
    before = loop.time()
    poller: Any = await opened(client, FakeScheduler())
    assert loop.time() - before == pytest.approx(5.0)
    await asyncio.sleep(INTERVAL / 2)
    assert client.count(poll_run) == 2
    await poller.close(client)


@pytest.mark.parametrize("silent", ["scheduler", "worker", "nobody", "broken"])
async def test_every_worker_closes_the_run_at_the_end(silent: str) -> None:
    """A worker that has just joined too; whoever does not reply in time is left alone."""
    client = FakeClient("a", "b")
    poller: Any = await opened(client, FakeScheduler())
    client.threads["c"] = 1
    failed: list[Any] = []

    async def broken() -> None:
        failed.append(asyncio.current_task())
        raise OSError("no answer")

    if silent == "scheduler":
        client.nthreads = for_ever  # type: ignore[assignment,method-assign]  # it never returns
    elif silent == "broken":
        client.nthreads = broken  # type: ignore[assignment,method-assign]  # it only raises
    elif silent == "worker":
        client.replies[close_run] = lambda *_: for_ever()
    else:
        client.replies[close_run] = lambda run_id: run_id == "run" or pytest.fail(run_id)
    await asyncio.wait_for(poller.close(client), 11)
    assert sorted(address for address, function in client.calls if function is close_run) == (
        ["a", "b"] if silent in ("scheduler", "broken") else ["a", "b", "c"]
    )
    assert [task.exception() for task in failed[-1:]] == [None] * (silent == "broken")
    assert not our_tasks()


async def test_a_connection_that_is_slow_to_close_does_not_keep_the_run() -> None:
    """Dask closes the connection of a call that is cancelled, and that may take as long as the other side likes."""
    client = FakeClient("a")
    gate = asyncio.Event()

    async def reply(*_: object) -> None:
        try:
            await for_ever()
        finally:
            await gate.wait()

    client.replies[poll_run] = client.replies[close_run] = reply
    poller: Any = await opened(client, FakeScheduler())
    await asyncio.sleep(INTERVAL / 2)
    await asyncio.wait_for(poller.close(client), 30)
    gate.set()
    await asyncio.sleep(1)
    assert not our_tasks()
