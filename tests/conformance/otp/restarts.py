"""Twins: restart types, and how many restarts are made."""

from aiosupervise import Supervisor

from .scene import Scene
from .twin import same


@same
async def permanent_child(scene: Scene) -> None:
    """A permanent child is restarted whenever it ends."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "it")
        scene.observe()
        await scene.fail("it")
        await scene.leave("it")


@same
async def transient_child(scene: Scene) -> None:
    """A transient child is restarted only after an error; it is remembered when it has returned."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "it", restart="transient")
        scene.observe()
        await scene.fail("it")
        await scene.leave("it")
        scene.children(sup)


@same
async def temporary_child(scene: Scene) -> None:
    """A temporary child is never restarted, and is forgotten when it has ended."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "it", restart="temporary")
        scene.observe()
        await scene.fail("it")
        scene.children(sup)
        await scene.start(sup, "it", restart="temporary")
        await scene.leave("it")
        scene.children(sup)


@same
async def failure_of_a_temporary_child(scene: Scene) -> None:
    """A temporary child that fails stops no sibling and does not count as a restart (intensity 0)."""
    async with scene.supervisor(strategy="one_for_all", max_restarts=0) as sup:
        await scene.start(sup, "other")
        await scene.start(sup, "it", restart="temporary")
        scene.observe()
        await scene.fail("it")
        await scene.outcome()


@same
async def stopped_child(scene: Scene) -> None:
    """A child that was stopped on request is not restarted; it is forgotten if it is temporary."""
    async with scene.supervisor() as sup:
        children = [
            await scene.start(sup, "a"),
            await scene.start(sup, "b", restart="transient"),
            await scene.start(sup, "c", restart="temporary"),
        ]
        scene.observe()
        for child in children:
            await child.stop()
        await scene.settle()
        scene.children(sup)


@same
async def stop_of_a_stopped_child(scene: Scene) -> None:
    """Stopping a child that was stopped does nothing."""
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it")
        scene.observe()
        await it.stop()
        await it.stop()
        scene.children(sup)


@same
async def taken_name(scene: Scene) -> None:
    """A name is in use while its child is remembered, whether the child is running or not."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "a")
        b = await scene.start(sup, "b")
        c = await scene.start(sup, "c", restart="temporary")
        scene.observe()
        await b.stop()
        await c.stop()
        for name in "abc":
            await _start(scene, sup, name)


async def _start(scene: Scene, sup: Supervisor, name: str) -> None:
    try:
        await scene.start(sup, name)
    except ValueError:
        scene.say(f"{name} is taken")


@same
async def intensity(scene: Scene) -> None:
    """With an intensity of 2, the child is restarted twice; the next failure ends the supervisor."""
    async with scene.supervisor(max_restarts=2) as sup:
        await scene.start(sup, "it")
        scene.observe()
        for _ in range(3):
            await scene.fail("it")


@same
async def returns_count(scene: Scene) -> None:
    """A permanent child that returns counts like one that fails (intensity 1)."""
    async with scene.supervisor(max_restarts=1) as sup:
        await scene.start(sup, "it")
        scene.observe()
        for _ in range(2):
            await scene.leave("it")


@same
async def giving_up(scene: Scene) -> None:
    """A supervisor that gives up stops the other children first, in reverse start order."""
    async with scene.supervisor(max_restarts=0) as sup:
        await scene.start(sup, *"abc")
        scene.observe()
        await scene.fail("b")


@same
async def one_period_ago(scene: Scene) -> None:
    """A restart exactly one period ago counts (1 s ago, intensity 1)."""
    async with scene.supervisor(max_restarts=1, within=1.0) as sup:
        await scene.start(sup, "it")
        scene.align()
        scene.observe()
        await scene.fail("it")
        await scene.at(1.0)
        await scene.fail("it")


@same
async def longer_ago(scene: Scene) -> None:
    """A restart more than one period ago does not count (2.1 s ago, period 1 s)."""
    async with scene.supervisor(max_restarts=1, within=1.0) as sup:
        await scene.start(sup, "it")
        scene.align()
        scene.observe()
        await scene.fail("it")
        await scene.at(2.1)
        await scene.fail("it")
        await scene.outcome()


@same
async def requested_restarts(scene: Scene) -> None:
    """A restart on request does not count (intensity 0)."""
    async with scene.supervisor(max_restarts=0) as sup:
        it = await scene.start(sup, "it")
        scene.observe()
        for _ in range(2):
            await it.stop()
            await it.restart()
            await scene.settle()
        await scene.outcome()
