"""Restart types: after which ends a child is restarted."""

import asyncio
from typing import Any

import pytest

from aiosupervise import Supervisor, supervise

from .scene import Run, Scene, cancels, fails, nothing_left, returns, turns

pytestmark = pytest.mark.looptime

EXITS: dict[str, Run | None] = {
    "normal": returns(1),
    "error": fails(1),
    "cancelled from inside": cancels(1),
    "stopped": None,
}
RESTARTED = {
    ("permanent", "normal"): True,
    ("permanent", "error"): True,
    ("permanent", "cancelled from inside"): True,
    ("permanent", "stopped"): False,
    ("transient", "normal"): False,
    ("transient", "error"): True,
    ("transient", "cancelled from inside"): True,
    ("transient", "stopped"): False,
    ("temporary", "normal"): False,
    ("temporary", "error"): False,
    ("temporary", "cancelled from inside"): False,
    ("temporary", "stopped"): False,
}
GROUPS = {
    "one_for_one": ["it starts"],
    "one_for_all": ["after is cancelled", "before is cancelled", "before starts", "it starts", "after starts"],
    "rest_for_one": ["after is cancelled", "it starts", "after starts"],
}


@pytest.mark.parametrize("strategy", GROUPS)
@pytest.mark.parametrize(("restart", "reason"), RESTARTED)
async def test_restart_types_and_strategies(strategy: Any, restart: Any, reason: str) -> None:
    """Restart type and kind of end decide whether a child is restarted; the strategy decides which siblings are."""
    scene = Scene()
    run = EXITS[reason]
    with nothing_left():
        async with Supervisor(strategy=strategy, backoff=[0]) as sup:
            scene.start(sup, "before")
            it = scene.start(sup, "it", *([run] if run else []), restart=restart)
            scene.start(sup, "after")
            await asyncio.sleep(0.5)
            scene.words()
            if run is None:
                await it.stop()
            await asyncio.sleep(1)
            end = "it is cancelled" if run is None else "it ends"
            assert scene.words() == [end, *(GROUPS[strategy] if RESTARTED[restart, reason] else [])]
            assert it.restarts == RESTARTED[restart, reason]
            sup.stop()


@pytest.mark.parametrize(
    ("restart", "run", "state"),
    [
        ("transient", returns(1), "ended"),
        ("temporary", returns(1), "ended"),
        ("temporary", fails(1), "failed"),
        ("temporary", cancels(1), "failed"),
    ],
)
async def test_the_state_of_a_child_that_is_not_restarted(restart: Any, run: Run, state: str) -> None:
    """It is "ended" if it has returned and "failed" if it has raised, and keeps the error."""
    async with Supervisor(max_restarts=0) as sup:
        child = Scene().start(sup, "it", run, restart=restart)
        await sup.wait()
        assert child.state == state
        assert child.restarts == 0
        assert type(child.last_error) is type(run.error)


async def test_a_cancel_from_inside_is_an_error_and_harms_nobody_else() -> None:
    """A child that raises CancelledError by itself is restarted; neither siblings nor the supervisor are cancelled."""
    scene = Scene()
    async with Supervisor(backoff=[0]) as sup:
        scene.start(sup, "other")
        it = scene.start(sup, "it", cancels(1), restart="transient")
        await asyncio.sleep(2)
        assert scene.words() == ["other starts", "it starts", "it ends", "it starts"]
        assert repr(it.last_error) == "CancelledError('from inside')"
        sup.stop()


async def test_a_temporary_child_that_has_ended_is_forgotten() -> None:
    """It is no longer listed among the children, and its name can be reused."""
    async with Supervisor() as sup:
        for _ in range(3):
            Scene().start(sup, "it", returns(1), restart="temporary")
            assert [child.name for child in sup.children()] == ["it"]
            await sup.wait()
            assert sup.children() == ()


async def test_a_temporary_child_that_was_stopped_is_forgotten() -> None:
    """It is forgotten as if it had ended by itself."""
    async with Supervisor() as sup:
        await Scene().start(sup, "it", restart="temporary").stop()
        assert sup.children() == ()


async def test_other_children_that_have_ended_are_remembered() -> None:
    """As in OTP, a transient child that has ended and a child that was stopped stay registered and keep their names."""
    async with Supervisor() as sup:
        Scene().start(sup, "ended", returns(1), restart="transient")
        await Scene().start(sup, "stopped").stop()
        await sup.wait()
        assert [(child.name, child.state) for child in sup.children()] == [("ended", "ended"), ("stopped", "stopped")]
        with pytest.raises(ValueError, match="got ended, which is taken"):
            Scene().start(sup, "ended")


async def test_a_policy_retries_the_call_and_the_supervisor_restarts_the_child() -> None:
    """A supervised function retries by its policy; an error on which the call gives up is a failure of the child."""
    calls: list[int] = []

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=[0])
    async def consume() -> None:
        calls.append(len(calls))
        if len(calls) < 5:
            raise ConnectionError

    async with Supervisor(backoff=[0]) as sup:
        child = sup.start(consume, restart="transient")
        await sup.wait()
        assert len(calls) == 5
        assert child.restarts == 1


async def test_a_child_that_fails_in_its_first_step_does_not_starve_the_loop() -> None:
    """Without a backoff it is restarted in every iteration of the event loop, and other tasks run in between."""
    starts = 0

    async def broken() -> None:
        nonlocal starts
        starts += 1
        raise ValueError

    async with Supervisor(backoff=[0], max_restarts=1_000_000) as sup:
        sup.start(broken)
        await turns(200)
        assert 20 <= starts <= 200
        await sup.stop()
