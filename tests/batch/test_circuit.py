"""The states of a circuit in the cases in which a pause is extended, to the exact moment."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aiosupervise import Event, Overload, RunPaused, RunResumed, Success, Tally, map_all, supervise
from aiosupervise._batch.circuit import Circuit, Ended, Timer
from aiosupervise._batch.first_attempts import LATEST, WINDOW, FirstAttempts
from aiosupervise._batch.outage import Outage
from aiosupervise._batch.protected import ProtectedRun
from aiosupervise._batch.states import Closed, HalfOpen, Paused
from aiosupervise._batch.waiters import Waiters
from aiosupervise._call.enclosing_job import Permit

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


async def test_a_neutral_probe_leaves_the_circuit_open_until_the_moment_that_a_server_named_meanwhile() -> None:
    """The next probe is sent at that moment, no later."""
    service = Service(script={0: [down()], 1: [busy(0.25, 1)], 2: [(0.875, LookupError())]})
    await map_all(supervise(POLICY)(service), range(6), limit=2, overload=empty())
    assert service.times(2) == [0.25]
    assert service.attempts[3] == (1.25, 3)


async def test_a_timer_is_cancelled_any_number_of_times() -> None:
    """It does not act, and can be set again."""
    acts: list[int] = []
    timer = Timer()
    timer.set(1.0, lambda: acts.append(1))
    timer.cancel()
    timer.cancel()
    timer.set(2.0, lambda: acts.append(2))
    await asyncio.sleep(3)
    assert acts == [2]


async def test_a_call_that_is_cancelled_as_it_is_sent_as_the_probe_makes_room_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next call in the queue is the probe in the same moment; nobody waits for the one that was cancelled."""
    service = Service(script={0: [down()], 1: [down()]})
    release_first = Waiters.release_first

    def release_and_cancel(waiters: Waiters, permit: Any, **options: Any) -> object:
        call = release_first(waiters, permit, **options)
        task = service.tasks[0]
        assert task is not None
        task.cancel()
        return call

    monkeypatch.setattr(Waiters, "release_first", release_and_cancel)
    report = await map_all(supervise(POLICY)(service), range(2), overload=empty())
    assert service.times(0) == [0]
    assert service.times(1) == [0, 0.25]
    assert [type(outcome) for outcome in report][1:] == [Success]


def circuit_of(tally: Tally) -> Circuit:
    """A closed circuit of a run with these counts."""
    context: Any = SimpleNamespace(tally=tally, scope=SimpleNamespace(emit=lambda *_: None), wake=lambda: None)
    return Circuit(Overload(), ProtectedRun(context), Closed, 0)


async def test_a_circuit_that_has_ended_describes_nothing() -> None:
    """The run is not paused any more, in whichever state it ended; unless its probes had stopped it."""
    circuit = circuit_of(Tally(10, 5))
    circuit.go_to(Paused(circuit))
    assert circuit.state.describe() == "paused for 0.0 s, the server asked to wait"
    circuit.go_to(Ended(circuit))
    assert circuit.state.describe() == ""


async def test_a_call_with_a_slot_takes_the_place_of_a_probe_that_waits_for_one() -> None:
    """Also if it joins the queue later; a probe that has started keeps its place."""
    circuit = circuit_of(Tally(10, 5, running=5))
    circuit.go_to(HalfOpen(circuit, Outage(circuit)))

    async def join(call: str, *, with_slot: bool) -> Any:
        waiter = circuit.waiters.join(call, SimpleNamespace(has_slot=lambda: with_slot))
        circuit.state.on_wait()
        await asyncio.sleep(0.1)
        return waiter

    first = await join("first", with_slot=False)
    second = await join("second", with_slot=False)
    assert first.result() is Permit.PROBE
    assert not second.done()
    third = await join("third", with_slot=True)
    assert third.result() is Permit.PROBE
    circuit.state.on_start("third")
    circuit.state.on_start("first")
    fourth = await join("fourth", with_slot=True)
    assert not second.done()
    assert not fourth.done()
    circuit.state.on_success("third")
    assert circuit.is_closed
    assert fourth.result() is second.result() is Permit.GO


@pytest.mark.parametrize(("pending", "is_outage"), [(0, True), (1, False)])
async def test_once_every_job_has_started_an_outage_takes_more_failures(pending: int, *, is_outage: bool) -> None:
    """Running, finished and refused jobs have started, all alike; as long as one is left, half of the failures do."""
    circuit = circuit_of(Tally(10, 5, succeeded=3, failed=2, running=4, pending=pending))
    for number in range(WINDOW):
        circuit.first_attempts.record(failed=number % 2 == 0)
    assert circuit.shows_outage() is is_outage


def test_first_attempts_are_clean_after_a_window_of_successes() -> None:
    """Exactly a window of successes in a row; a failure begins the count anew."""
    attempts = FirstAttempts()
    for _ in range(2):
        for _ in range(WINDOW):
            assert attempts.are_clean is False
            attempts.record(failed=False)
        assert attempts.are_clean is True
        attempts.record(failed=True)


@pytest.mark.parametrize(("successes", "are_clean"), [(WINDOW - 1, False), (WINDOW, True), (2 * WINDOW, True)])
def test_first_attempts_begin_with_earlier_successes(successes: int, *, are_clean: bool) -> None:
    """They are in the window, as if each had been recorded."""
    attempts = FirstAttempts(successes)
    assert attempts.are_clean is are_clean
    attempts.record(failed=False)
    assert attempts.are_clean is True
    for _ in range(WINDOW // 2 - 1):
        attempts.record(failed=True)
    assert attempts.rule_out_outage() is True
    attempts.record(failed=True)
    assert attempts.show_outage() is True


def test_first_attempts_show_an_outage_of_the_latest_jobs() -> None:
    """In a full window the latest all failed, and no fewer: a success in between begins the count anew."""
    attempts = FirstAttempts()
    for _ in range(WINDOW):
        attempts.record(failed=True)
    attempts.record(failed=False)
    for _ in range(LATEST - 1):
        attempts.record(failed=True)
        assert attempts.show_outage_now() is False
    attempts.record(failed=True)
    assert attempts.show_outage_now() is True


async def test_a_waiter_leaves_the_queue_once() -> None:
    """A call that was released and is cancelled in the same iteration is no longer in the queue when it leaves."""
    waiters = Waiters()
    waiter = waiters.join("call", SimpleNamespace(has_slot=lambda: True))
    waiters.leave(waiter)
    waiters.leave(waiter)
    assert len(waiters) == 0
    assert waiter.cancel()
    assert isinstance(waiter, asyncio.Future)
