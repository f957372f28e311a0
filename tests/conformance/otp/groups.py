"""Twins: strategies, that is, which siblings are restarted with a child."""

from .scene import Behaviour, Scene
from .twin import same


@same
async def one_for_one(scene: Scene) -> None:
    """Under `one_for_one`, siblings are not affected."""
    async with scene.supervisor(strategy="one_for_one") as sup:
        await scene.start(sup, *"abc")
        scene.observe()
        await scene.fail("b")


@same
async def one_for_all(scene: Scene) -> None:
    """Under `one_for_all`, all siblings are stopped, in reverse start order, and started in start order."""
    async with scene.supervisor(strategy="one_for_all") as sup:
        await scene.start(sup, *"abcd")
        scene.observe()
        await scene.fail("b")


@same
async def rest_for_one(scene: Scene) -> None:
    """Under `rest_for_one`, only the siblings started after the child are stopped and started."""
    async with scene.supervisor(strategy="rest_for_one") as sup:
        await scene.start(sup, *"abcd")
        scene.observe()
        await scene.fail("b")


@same
async def clean_up_in_a_group(scene: Scene) -> None:
    """A group is stopped one child at a time, and started when all of them have ended."""
    async with scene.supervisor(strategy="one_for_all") as sup:
        await scene.start(sup, "a")
        await scene.start(sup, "b", "c", behaviour=Behaviour(clean_up=0.2))
        scene.observe()
        await scene.fail("a")
        await scene.at(1.0)


@same
async def temporary_sibling(scene: Scene) -> None:
    """A group restart stops temporary siblings too, and forgets them."""
    async with scene.supervisor(strategy="one_for_all") as sup:
        await scene.start(sup, "it")
        await scene.start(sup, "other", restart="temporary")
        scene.observe()
        await scene.fail("it")
        scene.children(sup)


@same
async def ended_siblings(scene: Scene) -> None:
    """A group restart also starts siblings that had ended or were stopped."""
    async with scene.supervisor(strategy="rest_for_one") as sup:
        await scene.start(sup, "it")
        await scene.start(sup, "ended", restart="transient")
        stopped = await scene.start(sup, "stopped")
        await scene.leave("ended")
        await stopped.stop()
        scene.observe()
        await scene.fail("it")


@same
async def group_counts_once(scene: Scene) -> None:
    """A group restart counts as one restart (intensity 1)."""
    async with scene.supervisor(strategy="one_for_all", max_restarts=1) as sup:
        await scene.start(sup, *"abc")
        scene.observe()
        await scene.fail("c")
        await scene.outcome()


@same
async def together_one_for_all(scene: Scene) -> None:
    """Under `one_for_all`, siblings that fail together count as one restart (intensity 1)."""
    async with scene.supervisor(strategy="one_for_all", max_restarts=1) as sup:
        await scene.start(sup, *"ab")
        scene.observe()
        await scene.together("b", "a")
        await scene.outcome()


@same
async def together_rest_for_one(scene: Scene) -> None:
    """Under `rest_for_one`, simultaneous failures count as one restart if the first in start order is handled first."""
    async with scene.supervisor(strategy="rest_for_one", max_restarts=1) as sup:
        await scene.start(sup, *"ab")
        scene.observe()
        await scene.together("a", "b")
        await scene.outcome()


@same
async def broken_restart_one_for_all(scene: Scene) -> None:
    """Under `one_for_all`, if a child fails during a group restart before it is ready, the restart begins again."""
    async with scene.supervisor(strategy="one_for_all") as sup:
        await scene.start(sup, "a")
        await scene.start(sup, "b", behaviour=Behaviour(broken_runs=[2]))
        scene.observe()
        await scene.fail("a")


@same
async def broken_restart_rest_for_one(scene: Scene) -> None:
    """Under `rest_for_one`, the restart then begins again with the group of the child that failed last."""
    async with scene.supervisor(strategy="rest_for_one") as sup:
        await scene.start(sup, "a")
        await scene.start(sup, "b", behaviour=Behaviour(broken_runs=[2]))
        scene.observe()
        await scene.fail("a")
