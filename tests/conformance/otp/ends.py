"""Twins: start and shutdown, trees, and children that come and go."""

import asyncio

from .scene import Behaviour, Scene
from .twin import same


@same
async def start_order(scene: Scene) -> None:
    """Children are started in order, each when the one before it is ready."""
    async with scene.supervisor(strategy="rest_for_one") as sup:
        scene.observe()
        for name, starts_in in [("a", 0.1), ("b", 0.0), ("c", None)]:
            behaviour = Behaviour(starts_in=starts_in)
            sup.start(scene.child(name, behaviour), name=name, ready=behaviour.ready)
        await scene.at(1.0)


@same
async def shutdown_order(scene: Scene) -> None:
    """At a shutdown, children are stopped one at a time, in reverse start order."""
    async with scene.supervisor() as sup:
        await scene.start(sup, *"abc", behaviour=Behaviour(clean_up=0.1))
        scene.observe()
        await sup.stop()
        scene.say("the supervisor has ended")


@same
async def position_after_a_restart(scene: Scene) -> None:
    """A restarted child keeps its position in the start order."""
    async with scene.supervisor() as sup:
        await scene.start(sup, *"abc")
        a = sup.children()[0]
        await a.stop()
        await a.restart()
        await scene.fail("b")
        scene.observe()
        await sup.stop()


@same
async def ends_during_shutdown(scene: Scene) -> None:
    """A child that fails during a shutdown, while another one is being stopped, is not restarted."""
    async with scene.supervisor() as sup:
        await scene.start(sup, *"ab")
        await scene.start(sup, "c", behaviour=Behaviour(clean_up=0.3))
        scene.observe()
        stopped = sup.stop()
        await scene.settle()
        await scene.fail("b")
        await stopped
        scene.say("the supervisor has ended")


@same
async def clean_up_that_fails(scene: Scene) -> None:
    """A child whose clean-up fails still counts as stopped, and is not restarted."""
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it", behaviour=Behaviour(clean_up_fails=True))
        scene.observe()
        await it.stop()
        await scene.settle()
        scene.children(sup)


@same
async def shutdown_of_a_tree(scene: Scene) -> None:
    """A supervisor that is a child is stopped like any other child, together with its children."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "a")
        sup.start(scene.tree("branch", "b", "c"))
        await scene.settle()
        await scene.start(sup, "d")
        scene.observe()
        await sup.stop()


@same
async def escalation_in_a_tree(scene: Scene) -> None:
    """A permanent supervisor that gives up is restarted, without children that were added later."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "other")
        sup.start(scene.tree("branch", "a", "b", max_restarts=0))
        await scene.settle()
        await scene.start(scene.supervisors["branch"], "added")
        scene.observe()
        await scene.fail("a")


@same
async def simple_restarts(scene: Scene) -> None:
    """Under `simple_one_for_one`, each child is restarted individually, according to its restart type."""
    async with scene.supervisor(strategy="simple_one_for_one") as sup:
        await scene.start(sup, *"ab", restart="transient")
        scene.observe()
        await scene.fail("a")


@same
async def simple_forgets(scene: Scene) -> None:
    """Under `simple_one_for_one`, children that have ended or were stopped are forgotten, even transient ones."""
    async with scene.supervisor(strategy="simple_one_for_one") as sup:
        b = await scene.start(sup, *"ab", restart="transient")
        scene.observe()
        await scene.leave("a")
        await b.stop()
        scene.children(sup)


@same
async def simple_shutdown(scene: Scene) -> None:
    """Under `simple_one_for_one`, a shutdown stops all children at once."""
    loop = asyncio.get_running_loop()
    async with scene.supervisor(strategy="simple_one_for_one") as sup:
        await scene.start(sup, *"abc", behaviour=Behaviour(clean_up=0.2, quiet=True))
        scene.observe()
        begin = loop.time()
        await sup.stop()
        hundreds = round((loop.time() - begin) * 10)
        scene.say(f"three clean-ups of 200 ms end within {hundreds // 2 * 200 + 100} ms")
