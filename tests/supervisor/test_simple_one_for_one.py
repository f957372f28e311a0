"""simple_one_for_one: children that come and go, any number of them."""

import asyncio

import pytest

from aiosupervise import Supervisor

from .scene import Scene, fails, nothing_left, now, returns, turns

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_children_that_have_ended_are_forgotten(restart: str) -> None:
    """Whatever their restart type, when they are not restarted any more; their names are free again."""
    async with Supervisor(strategy="simple_one_for_one", backoff=[0]) as sup:
        for _ in range(3):
            child = Scene().start(sup, "it", returns(1), restart=restart)
            if restart == "permanent":
                await asyncio.sleep(2)
                assert (child.state, child.restarts) == ("running", 1)
                await child.stop()
            await sup.wait()
            assert sup.children() == ()


async def test_children_are_restarted_by_their_restart_type() -> None:
    """As under one_for_one, each by itself."""
    scene = Scene()
    async with Supervisor(strategy="simple_one_for_one", backoff=[1]) as sup:
        scene.start(sup, "it", fails(1), returns(1), restart="transient")
        scene.start(sup, "other")
        await asyncio.sleep(5)
        assert scene.times("it starts") == [0, 2]
        assert [child.name for child in sup.children()] == ["other"]
        sup.stop()


async def test_all_children_are_stopped_at_once() -> None:
    """One second of clean-up for each of a thousand is one second."""
    with nothing_left():
        async with Supervisor(strategy="simple_one_for_one") as sup:
            for number in range(1000):
                Scene().start(sup, str(number), clean_up=1)
            await asyncio.sleep(1)
            await sup.stop()
            assert now() == 2


async def test_a_child_that_waits_is_forgotten_when_it_is_stopped() -> None:
    """A stopped child is not started again, unless on request."""
    async with Supervisor(strategy="simple_one_for_one", backoff=[100]) as sup:
        child = Scene().start(sup, "it", fails(1))
        await asyncio.sleep(2)
        await child.stop()
        assert sup.children() == ()
        await child.restart()
        assert [one.name for one in sup.children()] == ["it"]
        await child.restart()
        assert (child.state, child.restarts) == ("running", 0)
        sup.stop()


async def test_an_automatic_name_skips_those_that_are_taken() -> None:
    """A name of the user's may look like one."""

    async def poll() -> None:
        await asyncio.Event().wait()

    async with Supervisor() as sup:
        sup.start(poll, name="poll-1")
        assert sup.start(poll).name == "poll-2"
        assert sup.start(poll).name == "poll-3"
        await turns()
        sup.stop()
