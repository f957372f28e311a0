"""Who is started again: restart types, and how a child has ended."""

import asyncio
from typing import Any

import pytest

from aiosupervise import Supervisor, supervise

from .scene import Life, Scene, cancels, fails, nothing_left, returns, turns

pytestmark = pytest.mark.looptime

EXITS: dict[str, Life | None] = {
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
async def test_who_is_started_again(strategy: Any, restart: Any, reason: str) -> None:
    """A restart type and an exit reason say whether a child is restarted, and the strategy says who with it."""
    scene = Scene()
    life = EXITS[reason]
    with nothing_left():
        async with Supervisor(strategy=strategy, backoff=[0]) as sup:
            scene.start(sup, "before")
            it = scene.start(sup, "it", *([life] if life else []), restart=restart)
            scene.start(sup, "after")
            await asyncio.sleep(0.5)
            scene.words()
            if life is None:
                await it.stop()
            await asyncio.sleep(1)
            end = "it is cancelled" if life is None else "it ends"
            assert scene.words() == [end, *(GROUPS[strategy] if RESTARTED[restart, reason] else [])]
            assert it.restarts == RESTARTED[restart, reason]
            sup.stop()


@pytest.mark.parametrize(
    ("restart", "life", "state"),
    [
        ("transient", returns(1), "ended"),
        ("temporary", returns(1), "ended"),
        ("temporary", fails(1), "failed"),
        ("temporary", cancels(1), "failed"),
    ],
)
async def test_a_child_that_is_not_restarted_tells_how_it_ended(restart: Any, life: Life, state: str) -> None:
    """It has "ended" if it returned and "failed" if it raised, and keeps what it raised."""
    async with Supervisor(max_restarts=0) as sup:
        child = Scene().start(sup, "it", life, restart=restart)
        await sup.wait()
        assert child.state == state
        assert child.restarts == 0
        assert type(child.last_error) is type(life.error)


async def test_a_cancel_from_inside_is_an_error_and_harms_nobody_else() -> None:
    """A child that raises CancelledError by itself is restarted; neither siblings nor the supervisor are cancelled."""
    scene = Scene()
    async with Supervisor(backoff=[0]) as sup:
        scene.start(sup, "other")
        it = scene.start(sup, "it", cancels(1), restart="transient")
        await asyncio.sleep(2)
        assert scene.words() == ["other starts", "it starts", "it ends", "it starts"]
        assert isinstance(it.last_error, asyncio.CancelledError)
        sup.stop()


async def test_a_temporary_child_that_has_ended_is_forgotten() -> None:
    """There may be very many of them, so they are not among the children any more, and their name is free again."""
    async with Supervisor() as sup:
        for _ in range(3):
            Scene().start(sup, "it", returns(1), restart="temporary")
            assert [child.name for child in sup.children()] == ["it"]
            await sup.wait()
            assert sup.children() == ()


async def test_other_children_that_have_ended_are_remembered() -> None:
    """As in OTP, a transient child that has ended, or one that was stopped, stays a child, and keeps its name."""
    async with Supervisor() as sup:
        Scene().start(sup, "ended", returns(1), restart="transient")
        await Scene().start(sup, "stopped").stop()
        await sup.wait()
        assert [(child.name, child.state) for child in sup.children()] == [("ended", "ended"), ("stopped", "stopped")]
        with pytest.raises(ValueError, match="has a child of this name: ended"):
            Scene().start(sup, "ended")


async def test_a_policy_handles_the_call_and_the_supervisor_the_rest() -> None:
    """A supervised function retries by its policy; what it gives up on is a failure of the child."""
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
    """Without a backoff, and with no limit, it is restarted again and again, and other tasks have their turns."""
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
