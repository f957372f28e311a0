"""Scripted supervisors for the sweep, one for each way in which children behave and supervisors end."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from aiosupervise import Supervisor, alive, ready, run_all
from aiosupervise._supervisor.registry import RestartStrategy

from .laws import Make
from .loops import pause, seconds
from .scenarios import MIXED, cancel_a_child, sleeper, swallow_one_cancel
from .supervisor_laws import Watch

ScriptedSupervisor: TypeAlias = Callable[[Watch, RestartStrategy], Awaitable[object]]


def crashing(*ticks: int, error: Callable[[], BaseException] = OSError) -> Make:
    """A child whose runs crash after these ticks; the one after the last runs until it is cancelled."""
    runs = iter(ticks)

    async def crash() -> None:
        await pause(next(runs, 1000))
        raise error()

    return crash


async def forever() -> None:
    """A child that runs until it is cancelled."""
    await pause(1000)


async def crashes(watch: Watch, strategy: RestartStrategy) -> None:
    """Children that crash at once, later, and by their own CancelledError; one that returns; two that run."""
    async with watch.supervisor(strategy, max_restarts=9) as sup:
        watch.start(sup, "first", forever)
        watch.start(sup, "crashing", crashing(0, 2))
        watch.start(sup, "returning", sleeper(3), "transient")
        watch.start(sup, "cancelled", crashing(3, error=asyncio.CancelledError))
        watch.start(sup, "temporary", sleeper(1, error=OSError), "temporary")
        watch.start(sup, "last", forever)
        await pause(8)
        sup.stop()


async def to_the_end(watch: Watch, strategy: RestartStrategy) -> None:
    """A body that leaves at once, and children that end by themselves."""
    runs = iter([1, 2])

    async def twice() -> None:
        for ticks in runs:
            await pause(ticks)
            raise OSError

    async with watch.supervisor(strategy, max_restarts=9) as sup:
        watch.start(sup, "first", sleeper(4), "transient")
        watch.start(sup, "second", twice, "transient")
        watch.start(sup, "third", sleeper(2), "temporary")


async def slow_clean_up(watch: Watch, strategy: RestartStrategy) -> None:
    """Siblings of a child that crashes, which clean up slowly, one after the other."""
    async with watch.supervisor(strategy) as sup:
        watch.start(sup, "first", watch.clean_up_slowly())
        watch.start(sup, "crashing", crashing(1))
        watch.start(sup, "second", watch.clean_up_slowly())
        watch.start(sup, "temporary", watch.clean_up_slowly(), "temporary")
        await pause(5)
        sup.stop()


async def swallowed_cancels(watch: Watch, strategy: RestartStrategy) -> None:
    """Children that return although they were cancelled, and one that raises something else."""

    async def fail_in_clean_up() -> None:
        try:
            await pause(1000)
        finally:
            raise LookupError

    async with watch.supervisor(strategy) as sup:
        watch.start(sup, "swallowing", swallow_one_cancel)
        watch.start(sup, "crashing", crashing(1))
        watch.start(sup, "failing", fail_in_clean_up)
        watch.start(sup, "transient", swallow_one_cancel, "transient")
        await pause(4)
        sup.stop()


async def nested(watch: Watch, strategy: RestartStrategy) -> None:
    """A supervisor in a child, between two that clean up slowly."""

    async def inner() -> None:
        async with watch.supervisor(strategy, max_restarts=9) as sup:
            watch.start(sup, "inner first", watch.clean_up_slowly())
            watch.start(sup, "inner crashing", crashing(1))
            await pause(1000)

    async with watch.supervisor(strategy, max_restarts=9) as sup:
        watch.start(sup, "first", watch.clean_up_slowly())
        watch.start_nested(sup, inner)
        watch.start(sup, "crashing", crashing(3))
        await pause(8)
        sup.stop()


async def escalation(watch: Watch, strategy: RestartStrategy) -> None:
    """A child that crashes too often, and a body that waits for something else."""
    with watch.escalation():
        async with watch.supervisor(strategy, max_restarts=1) as sup:
            watch.start(sup, "slow", watch.clean_up_slowly())
            watch.start(sup, "crashing", sleeper(1, error=OSError))
            await pause(1000)


async def escalation_after_the_body(watch: Watch, strategy: RestartStrategy) -> None:
    """A child that crashes too often when the body has left."""
    with watch.escalation():
        async with watch.supervisor(strategy, max_restarts=1) as sup:
            watch.start(sup, "crashing", sleeper(1, error=OSError))
            watch.start(sup, "swallowing", swallow_one_cancel)


async def nested_escalation(watch: Watch, strategy: RestartStrategy) -> None:
    """A supervisor in a child that escalates, is restarted and escalates again, so that the outer one does too."""

    async def inner() -> None:
        async with watch.supervisor(strategy, max_restarts=0) as sup:
            watch.start(sup, "inner slow", watch.clean_up_slowly())
            watch.start(sup, "inner crashing", sleeper(1, error=OSError))
            await pause(1000)

    with watch.escalation():
        async with watch.supervisor(strategy, max_restarts=1) as sup:
            watch.start(sup, "first", forever)
            watch.start_nested(sup, inner)
            await sup.wait()


async def stopped_from_outside(watch: Watch, strategy: RestartStrategy) -> None:
    """A supervisor that is stopped, and stopped again while it stops."""
    async with watch.supervisor(strategy) as sup:
        watch.start(sup, "slow", watch.clean_up_slowly())
        watch.start(sup, "first step", sleeper(0), "temporary")
        await pause(1)
        stopped = sup.stop()
        await pause(1)
        await sup.stop()
        await stopped
        await sup.wait()


async def stopped_from_inside(watch: Watch, strategy: RestartStrategy) -> None:
    """A supervisor that is stopped by its own child, which waits for the end and so is cancelled too."""
    async with watch.supervisor(strategy) as sup:

        async def stop() -> None:
            await pause(1)
            await sup.stop()

        watch.start(sup, "slow", watch.clean_up_slowly())
        watch.start(sup, "stopping", stop)
        watch.start(sup, "last", forever)


async def body_fails(watch: Watch, strategy: RestartStrategy) -> None:
    """A body that leaves by an error of its own."""
    with suppress(LookupError):
        async with watch.supervisor(strategy) as sup:
            watch.start(sup, "slow", watch.clean_up_slowly())
            watch.start(sup, "crashing", crashing(1))
            await pause(2)
            raise LookupError


async def starting_others(watch: Watch, strategy: RestartStrategy) -> None:
    """A child that starts another one in each run, as long as the supervisor accepts children."""
    numbers = iter(range(100))

    def starting(sup: Supervisor) -> Make:
        async def start_another() -> None:
            await pause(1)
            with suppress(RuntimeError):  # the error holds this frame, which holds the supervisor
                watch.start(sup, f"other {next(numbers)}", watch.clean_up_slowly(), "temporary")
            await pause(2)

        return start_another

    async with watch.supervisor(strategy, max_restarts=None) as sup:
        watch.start(sup, "starting", starting(sup))
        await pause(6)
        sup.stop()


async def requests(watch: Watch, strategy: RestartStrategy) -> None:
    """Children that are restarted and stopped one by one: while they run, wait, clean up, and afterwards."""
    async with watch.supervisor(strategy, max_restarts=9) as sup:
        slow = watch.start(sup, "slow", watch.clean_up_slowly())
        crashing_one = watch.start(sup, "crashing", crashing(1))
        temporary = watch.start(sup, "temporary", forever, "temporary")
        await pause(1)
        await crashing_one.restart()
        slow.stop()
        await slow.restart()
        await temporary.stop()
        await temporary.restart()
        await slow.stop()
        sup.stop()


async def batches(watch: Watch, strategy: RestartStrategy) -> None:
    """A child that runs batches, and one that waits for a task that somebody cancels."""

    async def batch() -> None:
        await run_all([make() for make in MIXED], limit=2)
        raise OSError

    async with watch.supervisor(strategy, max_restarts=9) as sup:
        watch.start(sup, "batch", batch, "transient")
        watch.start(sup, "cancelled", cancel_a_child, "temporary")
        await pause(7)
        sup.stop()


async def refusals(watch: Watch, strategy: RestartStrategy) -> None:
    """Siblings of a child that crashes, which do not end at their first cancellation."""
    with watch.refusals():
        async with watch.supervisor(strategy) as sup:
            watch.start(sup, "first", watch.refuse)
            watch.start(sup, "crashing", crashing(1))
            watch.start(sup, "slow", watch.clean_up_slowly())
            watch.start(sup, "last", watch.refuse)
            await pause(5)
            sup.stop()


async def readiness(watch: Watch, strategy: RestartStrategy) -> None:
    """Children that become ready, slowly and too late, before and between others that wait for them or crash."""
    runs = iter([1000])

    async def becomes_ready() -> None:
        await pause(2)
        ready()
        await pause(1000)

    async def late_once() -> None:
        await pause(next(runs, 1))
        ready()
        await pause(1000)

    async with watch.supervisor(strategy, max_restarts=9) as sup:
        watch.start(sup, "first", becomes_ready, ready=seconds(9))
        watch.start(sup, "slow", watch.clean_up_slowly())
        watch.start(sup, "late", late_once, ready=seconds(3))
        watch.start(sup, "crashing", crashing(1))
        watch.start(sup, "last", becomes_ready, ready=seconds(9))
        await pause(20)
        sup.stop()


async def heartbeats(watch: Watch, strategy: RestartStrategy) -> None:
    """Children that are alive, that hang, and that hang before they are ready."""

    async def hangs() -> None:
        await pause(2)
        alive()
        await pause(1000)

    async def lives() -> None:
        while True:
            await pause(2)
            alive()

    async with watch.supervisor(strategy, max_restarts=None) as sup:
        watch.start(sup, "slow", watch.clean_up_slowly())
        watch.start(sup, "living", lives, heartbeat=seconds(3))
        watch.start(sup, "hanging", hangs, heartbeat=seconds(3))
        watch.start(sup, "late", forever, "transient", ready=seconds(4), heartbeat=seconds(1))
        await pause(12)
        sup.stop()


async def signals(watch: Watch, strategy: RestartStrategy) -> None:
    """A supervisor that a signal stops, while a group restart and a clean-up are under way."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        async with watch.supervisor(strategy, stop_on=(signal.SIGINT, signal.SIGTERM)) as sup:
            watch.start(sup, "first", watch.clean_up_slowly())
            watch.start(sup, "crashing", crashing(1))
            watch.start(sup, "slow", watch.clean_up_slowly())
            watch.start(sup, "last", forever)
            await pause(3)
            watch.send(signal.SIGTERM)
            assert sup.stopped_by is signal.SIGTERM
    finally:
        assert signal.getsignal(signal.SIGTERM) is before, "the handler was not restored"


async def two_signals(watch: Watch, strategy: RestartStrategy) -> None:
    """A second signal cancels all children, those that clean up too; the caller waits for them all the same."""

    async def clean_up() -> None:
        try:
            await pause(1000)
        finally:
            await pause(4)

    async with watch.supervisor(strategy, stop_on=(signal.SIGTERM,)) as sup:
        watch.start(sup, "first", forever)
        watch.start(sup, "crashing", crashing(1))
        watch.start(sup, "swallowing", swallow_one_cancel)
        watch.start(sup, "last", clean_up)
        await pause(2)
        watch.send(signal.SIGTERM)
        await pause(1)
        watch.send(signal.SIGTERM)
        await sup.stop()


async def waiters(watch: Watch, strategy: RestartStrategy) -> None:
    """A caller that waits for the readiness and the end of children, which crash, are stopped, or do not get ready."""
    runs = iter([1, 2])

    async def becomes_ready() -> None:
        await pause(next(runs, 1))
        ready()
        await pause(3)
        raise OSError

    async with watch.supervisor(strategy, max_restarts=9) as sup:
        first = watch.start(sup, "first", becomes_ready, ready=seconds(9))
        await first.wait_ready()
        ending = watch.start(sup, "ending", sleeper(2), "temporary")
        await ending.wait()
        failing = watch.start(sup, "failing", crashing(1), "temporary", ready=seconds(9))
        with suppress(OSError):
            await failing.wait_ready()
        with suppress(OSError):
            await failing.wait()
        last = watch.start(sup, "last", watch.clean_up_slowly())
        sup.stop()
        await last.wait()


ANY_TIME: list[ScriptedSupervisor] = [
    crashes,
    to_the_end,
    slow_clean_up,
    nested,
    escalation,
    escalation_after_the_body,
    nested_escalation,
    stopped_from_outside,
    stopped_from_inside,
    body_fails,
    starting_others,
    requests,
    batches,
    signals,
]
VIRTUAL_TIME: list[ScriptedSupervisor] = [swallowed_cancels, refusals, readiness, heartbeats, two_signals, waiters]
