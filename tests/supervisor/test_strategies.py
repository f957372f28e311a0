"""Strategies: which siblings are stopped and restarted with a child, and in which order."""

import asyncio
from typing import Any

import pytest

from aiosupervise import Supervisor

from .scene import Scene, eager_task_factory, fails, needs_eager, nothing_left, now, returns, turns

pytestmark = pytest.mark.looptime


@pytest.fixture(params=["lazy", pytest.param("eager", marks=needs_eager), pytest.param("own eager", marks=needs_eager)])
async def tasks(request: pytest.FixtureRequest) -> None:
    """Run a test with plain tasks, with asyncio's eager ones, and with eager ones of the user's own."""
    factories: dict[str, Any] = {"lazy": None, "eager": eager_task_factory}
    if request.param == "own eager":
        make = vars(asyncio)["create_eager_task_factory"]
        factories["own eager"] = make(lambda coro, **settings: asyncio.Task(coro, **settings))  # noqa: PLW0108 - the factory takes what the loop gives it
    asyncio.get_running_loop().set_task_factory(factories[request.param])


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(
    ("strategy", "siblings"),
    [("one_for_one", ""), ("one_for_all", "abde"), ("rest_for_one", "de")],
)
async def test_siblings_are_stopped_in_reverse_and_restarted_in_start_order(strategy: Any, siblings: str) -> None:
    """Each sibling has finished its clean-up before the next is cancelled; starts are in the original order."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy=strategy, backoff=[0]) as sup:
            for name in "ab":
                scene.start(sup, name, clean_up=1)
            scene.start(sup, "c", fails(1))
            for name in "de":
                scene.start(sup, name, clean_up=1)
            assert [child.name for child in sup.children()] == [*"abcde"]
            await asyncio.sleep(0.5)
            scene.words()
            await asyncio.sleep(5)
            stops = [f"{name} {what}" for name in reversed(siblings) for what in ("is cancelled", "has cleaned up")]
            starts = [f"{name} starts" for name in sorted([*siblings, "c"])]
            assert scene.words() == ["c ends", *stops, *starts]
            assert {child.name for child in sup.children() if child.restarts == 1} == {*siblings, "c"}
            sup.stop()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_temporary_siblings_are_stopped_and_forgotten(strategy: Any) -> None:
    """The failure of a sibling stops a temporary child too, and does not restart it."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[0]) as sup:
        scene.start(sup, "it", fails(1))
        temporary = scene.start(sup, "temporary", restart="temporary")
        await asyncio.sleep(2)
        assert scene.words() == ["it starts", "temporary starts", "it ends", "temporary is cancelled", "it starts"]
        assert [child.name for child in sup.children()] == ["it"]
        assert temporary.state == "stopped"
        sup.stop()


async def test_the_end_of_a_temporary_child_stops_no_siblings() -> None:
    """A child that is not restarted affects no siblings."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all") as sup:
        scene.start(sup, "other")
        scene.start(sup, "temporary", fails(1), restart="temporary")
        await asyncio.sleep(2)
        assert scene.alive == ["other"]
        sup.stop()


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_siblings_that_had_ended_are_started_again(strategy: Any) -> None:
    """As in OTP, a group restart starts transient children that have returned and children that were stopped."""
    scene = Scene()
    async with Supervisor(strategy=strategy, backoff=[0]) as sup:
        scene.start(sup, "it", fails(2))
        ended = scene.start(sup, "ended", returns(1), restart="transient")
        stopped = scene.start(sup, "stopped")
        await stopped.stop()
        await asyncio.sleep(1.5)
        assert (ended.state, stopped.state) == ("ended", "stopped")
        await asyncio.sleep(1)
        assert scene.alive == ["it", "ended", "stopped"]
        sup.stop()


async def test_one_for_one_does_not_start_siblings_that_had_ended() -> None:
    """Under one_for_one, a stopped child stays stopped."""
    scene = Scene()
    async with Supervisor(backoff=[0]) as sup:
        scene.start(sup, "it", fails(2))
        await scene.start(sup, "stopped").stop()
        await asyncio.sleep(3)
        assert scene.alive == ["it"]
        sup.stop()


async def test_siblings_that_fail_together_are_one_restart() -> None:
    """A sibling that had failed too, before it was stopped, does not cause a second restart."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", max_restarts=1, backoff=[0]) as sup:
        for name in "abc":
            scene.start(sup, name, fails(1))
        await asyncio.sleep(2)
        assert scene.alive == [*"abc"]
        assert [child.restarts for child in sup.children()] == [1, 1, 1]
        assert {repr(child.last_error) for child in sup.children()} == {"ValueError('broken')"}
        sup.stop()


async def test_a_child_that_was_restarted_by_a_command_fails_when_its_former_group_is_down() -> None:
    """Its failure is a restart of its own, after its own delay, and not part of the group's."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[8.0, 1.0]) as sup:
        it = scene.start(sup, "it", fails(1), fails(1))
        scene.start(sup, "slow", clean_up=2, restart="temporary")
        await asyncio.sleep(2)
        await it.restart()
        await asyncio.sleep(20)
        assert scene.times("slow has cleaned up") == [3]
        assert scene.times("it starts") == [0, 2, 4]
        sup.stop()


async def test_a_new_child_does_not_wait_for_temporary_members_that_were_stopped() -> None:
    """They are not started again, so a group of which only they are left holds up nobody."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[5]) as sup:
        it = scene.start(sup, "it", fails(1))
        slow = scene.start(sup, "slow", clean_up=3)
        scene.start(sup, "temporary", restart="temporary")
        await asyncio.sleep(2)
        it.stop()
        slow.stop()
        scene.start(sup, "new", ready=100)
        await asyncio.sleep(10)
        assert scene.times("slow has cleaned up") == [4]
        assert scene.times("new starts") == [2]
        sup.stop()


async def test_a_member_that_has_ended_and_is_stopped_is_not_started_with_its_group() -> None:
    """A command takes precedence over a group restart, even if the child has no run to stop."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        member = scene.start(sup, "member", returns(2), restart="transient")
        scene.start(sup, "slow", clean_up=3)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(3)
        assert member.state == "ended"
        await member.stop()
        await asyncio.sleep(5)
        assert (scene.times("member starts"), scene.times("it starts"), member.state) == ([0], [0, 4], "ended")
        sup.stop()


async def test_a_child_that_has_ended_waits_while_its_siblings_are_being_stopped() -> None:
    """Its state is not "running" while the clean-up of a sibling delays the restart."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        it = scene.start(sup, "it", fails(1))
        slow = scene.start(sup, "slow", clean_up=2)
        await asyncio.sleep(2)
        assert [(child.state, child.since) for child in (it, slow)] == [("waiting", 1), ("stopping", 1)]
        sup.stop()


async def test_a_group_waits_together() -> None:
    """Siblings are stopped before the delay, not after it, and wait with the child that failed."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[3]) as sup:
        scene.start(sup, "a")
        scene.start(sup, "b", fails(1))
        await asyncio.sleep(2)
        assert [(child.state, child.since) for child in sup.children()] == [("waiting", 1), ("waiting", 1)]
        await asyncio.sleep(3)
        assert [(child.state, child.since) for child in sup.children()] == [("running", 4), ("running", 4)]
        sup.stop()


async def test_a_child_that_is_stopped_while_its_group_waits_is_not_started() -> None:
    """Stopping one child of a group that waits removes this child only."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[3]) as sup:
        a = scene.start(sup, "a")
        scene.start(sup, "b", fails(1))
        await asyncio.sleep(2)
        await a.stop()
        await asyncio.sleep(3)
        assert scene.alive == ["b"]
        assert a.state == "stopped"
        sup.stop()


async def test_a_child_that_waits_joins_a_later_group() -> None:
    """A group includes its members that wait already, and starts each once."""
    scene = Scene()
    async with Supervisor(strategy="rest_for_one", backoff=[3]) as sup:
        scene.start(sup, "a", fails(2))
        scene.start(sup, "b", fails(1))
        scene.start(sup, "c")
        await asyncio.sleep(10)
        assert scene.times("a starts") == [0, 5]
        assert scene.times("b starts") == [0, 5]
        assert scene.times("c starts") == [0, 5]
        sup.stop()


async def test_a_child_that_is_started_while_a_group_is_stopped_is_not_of_the_group() -> None:
    """It is neither stopped nor restarted."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        scene.start(sup, "slow", clean_up=1)
        scene.start(sup, "it", fails(1))
        await asyncio.sleep(1.5)
        scene.start(sup, "new")
        await asyncio.sleep(1)
        assert scene.words()[3:] == [
            "slow is cancelled",
            "new starts",
            "slow has cleaned up",
            "slow starts",
            "it starts",
        ]
        sup.stop()


async def test_a_supervisor_that_is_stopped_while_it_stops_a_group_starts_nothing() -> None:
    """The restart is cancelled: stopped children stay stopped."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
            scene.start(sup, "slow", clean_up=1)
            scene.start(sup, "it", fails(1))
            await asyncio.sleep(1.5)
            await sup.stop()
            assert now() == 2
            assert scene.alive == []
            assert [child.state for child in sup.children()] == ["stopped", "stopped"]


async def test_no_child_waits_for_a_restart_in_a_supervisor_that_is_stopping() -> None:
    """The group of a cancelled restart is "stopped" while other children clean up."""
    scene = Scene()
    async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
        it = scene.start(sup, "it", fails(1))
        slow = scene.start(sup, "slow", clean_up=1)
        await asyncio.sleep(1.5)
        new = scene.start(sup, "new", clean_up=2)
        await turns()
        sup.stop()
        await asyncio.sleep(1)
        assert [child.state for child in (it, slow, new)] == ["stopped", "stopped", "stopping"]


async def test_a_restart_can_be_cancelled_while_another_child_stops() -> None:
    """A child is stopped while it waits, and the others continue."""
    scene = Scene()
    async with Supervisor(backoff=[1.0]) as sup:
        slow = scene.start(sup, "slow", clean_up=2)
        it = scene.start(sup, "it", fails(0.5))
        scene.start(sup, "other")
        await asyncio.sleep(1)
        slow.stop()
        it.stop()
        await asyncio.sleep(5)
        assert it.state == "stopped"
        assert scene.alive == ["other"]
        sup.stop()


async def test_a_temporary_child_whose_name_was_reused_is_not_restarted() -> None:
    """A group restart starts no temporary child, even if a new one has its name."""
    scene = Scene()
    with nothing_left():
        async with Supervisor(strategy="one_for_all", backoff=[0]) as sup:
            scene.start(sup, "slow", clean_up=1)
            scene.start(sup, "it", fails(1))
            scene.start(sup, "temporary", restart="temporary")
            await asyncio.sleep(1.5)
            scene.start(sup, "temporary", restart="temporary")
            await asyncio.sleep(5)
            sup.stop()
        assert scene.words().count("temporary starts") == 2
