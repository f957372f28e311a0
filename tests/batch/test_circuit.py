"""The states of a circuit in the cases in which a pause is extended, to the exact moment."""

import asyncio

import pytest

from aiosupervise import Event, RunPaused, RunResumed, Success, map_all, supervise
from aiosupervise._batch.waiters import Waiters

from .service import POLICY, Service, busy, down, empty

pytestmark = pytest.mark.looptime


@pytest.fixture(autouse=True)
def shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause is as short as it can be."""
    monkeypatch.setattr("random.uniform", lambda shortest, _: shortest)


async def test_an_open_circuit_waits_until_the_moment_that_a_server_named_meanwhile() -> None:
    """The pause ends at that moment, no later, and the outage goes on: a probe that fails then doubles the pause."""
    service = Service(script={0: [down()], 1: [busy(0.5, 0.125)], 2: [down()]})
    report = await map_all(supervise(POLICY)(service), range(6), limit=2, overload=empty())
    # The pauses are of 0.25 s, extended to 0.125 + 0.5, and of 0.5 s, since one probe has failed.
    assert service.attempts[2:4] == [(0.625, 2), (1.125, 3)]
    assert report.values() == list(range(6))


async def test_a_half_open_circuit_without_a_probe_opens_until_the_moment_that_a_server_names() -> None:
    """The call that saw it is the probe at that moment; when it fails, it counts as the first failed probe."""
    service = Service(script={0: [down(), (0, LookupError())], 1: [busy(0.25, 4), down()]})
    report = await map_all(supervise(POLICY)(service), range(2), overload=empty())
    assert service.times(1) == [0, 4.25, 4.75]
    assert [type(outcome) for outcome in report][1:] == [Success]


async def test_a_probe_that_succeeds_at_the_moment_that_a_server_named_closes_the_circuit() -> None:
    """There is nothing left to wait for: the run resumes, and does not pause once more."""
    events: list[Event] = []
    service = Service(script={0: [down()], 1: [busy(0.25, 1)], 2: [(1, None)]})
    await map_all(supervise(POLICY)(service), range(4), limit=2, overload=empty(), listen=events.append)
    paused = [type(event) for event in events if isinstance(event, (RunPaused, RunResumed))]
    assert service.times(1) == [0, 1.25]
    assert paused == [RunPaused, RunResumed]


async def test_a_waiter_leaves_the_queue_once() -> None:
    """A call that was released and is cancelled in the same turn is no longer in the queue when it leaves."""
    waiters = Waiters()
    waiter = waiters.join("call", "job")
    waiters.leave(waiter)
    waiters.leave(waiter)
    assert len(waiters) == 0
    assert waiter.cancel()
    assert isinstance(waiter, asyncio.Future)
