"""An engine of one's own: what a run asks of it, and what it may tell the run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest

from aiosupervise import Event, Overload, WorkerLost, map_all
from aiosupervise._batch.adaptive import AdaptiveLimit
from aiosupervise._batch.context import RunContext
from aiosupervise._batch.local import LocalRun
from aiosupervise._batch.protocol import EngineContext, EngineRun


class Here:
    """An engine that does the jobs in this process, and keeps what it was given."""

    def __init__(self, tell: Callable[[EngineContext[Any, Any]], None] = lambda _: None) -> None:
        self.checked: list[object] = []
        self.orders: list[EngineContext[Any, Any]] = []
        self._tell = tell

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Keep both."""
        self.checked += [func, inputs]

    def jobs(self, order: EngineContext[Any, Any]) -> EngineRun[Any, Any]:
        """Do them here."""
        self.orders.append(order)
        asyncio.get_running_loop().call_soon(self._tell, order)
        no_limit: AdaptiveLimit | None = None
        return LocalRun(
            order.func, order.name, RunContext(order.tally, order.scope, None, no_limit, None), order.record
        )


async def double(number: int) -> int:
    """A job."""
    await asyncio.sleep(0)
    return 2 * number


async def test_the_engine_gets_what_the_run_was_asked_for() -> None:
    """Function, name, limit and overload; and its outcomes are those of the run."""
    here, overload = Here(), Overload(probes=3)
    report = await map_all(double, [1, 2], limit=7, overload=overload, name="doubles", engine=here)
    assert report.values() == [2, 4]
    [order] = here.orders
    assert (order.func, order.name, order.limit, order.overload) == (double, "doubles", 7, overload)


@pytest.mark.parametrize(("inputs", "held"), [([1, 2], [1, 2]), (range(2), ())], ids=["list", "range"])
async def test_the_engine_checks_what_a_list_holds(inputs: Collection[int], held: object) -> None:
    """And nothing of a source that is read bit by bit."""
    here = Here()
    await map_all(double, inputs, engine=here)
    assert here.checked == [double, held]


async def test_the_engine_can_stop_the_run() -> None:
    """Nothing more is started."""
    report = await map_all(double, [1] * 9, limit=2, engine=Here(lambda order: order.stop()))
    assert len(report.pending) == 9


async def test_the_engine_can_fail_the_run() -> None:
    """Nothing more is started, and the first of its errors is raised."""

    def fail(order: EngineContext[Any, Any]) -> None:
        order.fail(OSError("gone"))
        order.fail(OSError("again"))

    run = map_all(double, [1] * 9, limit=2, engine=Here(fail))
    with pytest.raises(OSError, match="gone"):
        await run
    assert len(run.report.pending) == 9


def lose(order: EngineContext[Any, Any]) -> None:
    """Tell that a worker was lost."""
    order.scope.emit(WorkerLost, "tcp://worker", 3)


async def test_a_lost_worker_is_told_to_the_listeners_of_the_run() -> None:
    """With its address, and how many jobs start again."""
    heard: list[Event] = []
    await map_all(double, [1], listen=heard.append, engine=Here(lose))
    [lost] = [event for event in heard if isinstance(event, WorkerLost)]
    assert (lost.name, lost.worker, lost.jobs) == ("double", "tcp://worker", 3)


async def test_a_lost_worker_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With the same values, also when nobody listens."""
    caplog.set_level(logging.WARNING)
    await map_all(double, [1], engine=Here(lose))
    [record] = caplog.records
    assert (record.name, record.levelname) == ("aiosupervise.run", "WARNING")
    told = "run double lost worker tcp://worker; unfinished jobs that start again elsewhere: 3"
    assert record.getMessage() == told
    values = {name: value for name, value in vars(record).items() if name.startswith("aiosupervise_")}
    del values["aiosupervise_run"]
    for count in ("total", "succeeded", "failed", "pending", "retries"):
        del values[f"aiosupervise_{count}"]
    assert values == {"aiosupervise_name": "double", "aiosupervise_worker": "tcp://worker", "aiosupervise_jobs": 3}
