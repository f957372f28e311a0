"""Twins that say something else than their Erlang programs: the differences."""

import asyncio
import gc
import weakref
from contextlib import suppress

from aiosupervise import RestartsExceeded, Supervisor

from .scene import Behaviour, Scene
from .twin import differs


@differs("a restart")
async def restart_delay(scene: Scene) -> None:
    """A child fails: its state after 0.1 s, with a backoff of 0.5 s here."""
    async with scene.supervisor(backoff=[0.5]) as sup:
        await scene.start(sup, "it")
        scene.observe()
        await scene.fail("it")
        scene.children(sup)
        await scene.at(1.0)


@differs("the limit")
async def default_limit(scene: Scene) -> None:
    """A child fails again and again, under the default limit."""
    quiet = scene.child("it", Behaviour(quiet=True))
    with suppress(ExceptionGroup):
        async with Supervisor(backoff=[0]) as sup:
            it = sup.start(quiet)
            await scene.settle()
            scene.observe()
            while True:
                await scene.fail("it")
    scene.say(f"restarts made: {it.restarts}")


@differs("the limit")
async def together_one_for_one(scene: Scene) -> None:
    """Siblings fail together under `one_for_one`, with an intensity of 1."""
    async with scene.supervisor(strategy="one_for_one", max_restarts=1) as sup:
        await scene.start(sup, *"ab")
        scene.observe()
        await scene.together("a", "b")
        await scene.outcome()


@differs("siblings that fail together under `rest_for_one`")
async def together_rest_for_one_last_first(scene: Scene) -> None:
    """Siblings fail together under `rest_for_one`, and the last in start order is handled first."""
    async with scene.supervisor(strategy="rest_for_one") as sup:
        await scene.start(sup, *"ab")
        scene.observe()
        await scene.together("b", "a")


@differs("the period")
async def period(scene: Scene) -> None:
    """A child fails again after 1.8 s, with an intensity of 1 and a period of 1 s."""
    async with scene.supervisor(max_restarts=1, within=1.0) as sup:
        await scene.start(sup, "it")
        scene.align()
        scene.observe()
        await scene.fail("it")
        await scene.at(1.8)
        await scene.fail("it")
        await scene.outcome()


@differs("a child that exits with `shutdown`")
async def exit_with_shutdown(scene: Scene) -> None:
    """A transient child ends itself as if it had been stopped."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "it", restart="transient")
        scene.observe()
        await scene.command("it", "raises CancelledError")
        scene.children(sup)


@differs("a start function that fails")
async def broken_start(scene: Scene) -> None:
    """The second child fails before it is ready, as the supervisor starts."""
    async with scene.supervisor() as sup:
        scene.observe()
        await scene.start(sup, "a")
        await scene.start(sup, "b", behaviour=Behaviour(broken_runs=[1]))


@differs("a start function that fails")
async def broken_start_child(scene: Scene) -> None:
    """A child that is added later fails before it is ready."""
    async with scene.supervisor() as sup:
        scene.observe()
        await scene.start(sup, "it", behaviour=Behaviour(broken_runs=[1]))
        scene.children(sup)


@differs("a child that does not stop")
async def child_that_does_not_stop(scene: Scene) -> None:
    """A child does not stop within its shutdown time."""

    async def stubborn() -> None:
        for what in ("stops", "is cancelled again", "is cancelled again", "has stopped"):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3.5)
            scene.say(f"it {what}")

    async with scene.supervisor(grace=1.5) as sup:
        it = sup.start(stubborn)
        await scene.settle()
        scene.observe()
        await it.stop()


@differs("a child that does not stop")
async def brutal_kill(scene: Scene) -> None:
    """A child with a clean-up is stopped by `brutal_kill`, or `grace=0` here."""
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it", behaviour=Behaviour(clean_up=0.1), grace=0)
        scene.observe()
        await it.stop()


@differs("`restart_child` of a running child")
async def restart_of_a_running_child(scene: Scene) -> None:
    """A running child is restarted on request."""
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it")
        scene.observe()
        await it.restart()
        await scene.settle()


@differs("`restart_child` of a temporary child that has ended")
async def restart_of_a_forgotten_child(scene: Scene) -> None:
    """A temporary child that has ended is restarted on request."""
    async with scene.supervisor() as sup:
        it = await scene.start(sup, "it", restart="temporary")
        scene.observe()
        await scene.leave("it")
        await it.restart()
        await scene.settle()


@differs("`start_child` during shutdown")
async def start_during_shutdown(scene: Scene) -> None:
    """A child is started while the supervisor is shutting down and stops another child."""
    async with scene.supervisor() as sup:
        await scene.start(sup, "it", behaviour=Behaviour(clean_up=0.3))
        scene.observe()
        stopped = sup.stop()
        await scene.settle()
        try:
            await scene.start(sup, "new")
        except RuntimeError:
            scene.say("start raises RuntimeError")
        await stopped


@differs("siblings during a stop")
async def siblings_during_a_stop(scene: Scene) -> None:
    """Child b fails while child a, which has a clean-up of 0.5 s, is being stopped on request."""
    async with scene.supervisor() as sup:
        a = await scene.start(sup, "a", behaviour=Behaviour(clean_up=0.5))
        await scene.start(sup, "b")
        scene.observe()
        stopped = a.stop()
        await scene.settle()
        await scene.fail("b")
        await stopped


@differs("a child that is stopped while it waits in a group")
async def stop_of_a_child_that_waits(scene: Scene) -> None:
    """Under `rest_for_one`, b and c wait for the restart of b, and b is stopped on request."""
    async with scene.supervisor(strategy="rest_for_one", backoff=[1.0]) as sup:
        await scene.start(sup, *"abc")
        b = sup.children()[1]
        scene.observe()
        await scene.fail("b")
        await b.stop()
        scene.say("b is stopped")
        await asyncio.sleep(2)
        scene.children(sup)


@differs("a child that is stopped while it waits in a group")
async def stop_of_a_sibling_that_waits(scene: Scene) -> None:
    """Under `rest_for_one`, b and c wait for the restart of b, and c is stopped on request."""
    async with scene.supervisor(strategy="rest_for_one", backoff=[1.0]) as sup:
        await scene.start(sup, *"abc")
        c = sup.children()[2]
        scene.observe()
        await scene.fail("b")
        await c.stop()
        scene.say("c is stopped")
        await asyncio.sleep(2)
        scene.children(sup)


@differs("a child started while a group waits")
async def start_while_a_group_waits(scene: Scene) -> None:
    """Under `rest_for_one`, a new child is started while b waits for its restart."""
    async with scene.supervisor(strategy="rest_for_one", backoff=[1.0]) as sup:
        await scene.start(sup, *"ab")
        scene.observe()
        await scene.fail("b")
        await scene.start(sup, "new")
        await asyncio.sleep(2)


@differs("the arguments of a temporary child")
async def arguments_of_temporary_children(scene: Scene) -> None:
    """The arguments of a permanent child a and a temporary child b while both are running."""

    class Argument:
        """Something large."""

    async def run(argument: object) -> None:
        del argument
        await asyncio.Event().wait()

    def kept(name: str, restart: str) -> weakref.ref[Argument]:
        argument = Argument()
        sup.start(run, argument, name=name, restart=restart)  # type: ignore[arg-type]  # one of the words
        return weakref.ref(argument)

    async with scene.supervisor() as sup:
        arguments = {"a": kept("a", "permanent"), "b": kept("b", "temporary")}
        await scene.settle()
        gc.collect()
        scene.observe()
        for name, argument in arguments.items():
            scene.say(f"those of {name} are {'not ' if argument() is None else ''}kept")


@differs("a supervisor that is a transient child, and escalates")
async def transient_supervisor(scene: Scene) -> None:
    """A supervisor that is a transient child gives up."""
    async with scene.supervisor() as sup:
        sup.start(scene.tree("branch", "it", max_restarts=0), name="branch", restart="transient")
        await scene.settle()
        scene.observe()
        await scene.fail("it")
        scene.children(sup)


@differs("no child is left")
async def no_child_left(scene: Scene) -> None:
    """The only child ends (here after the body of the block has ended)."""
    async with Supervisor() as sup:
        await scene.start(sup, "it", restart="temporary")
        scene.observe()
        leaving = asyncio.create_task(scene.leave("it"))
    scene.say("the block ends")
    await leaving


@differs("the reason of an escalation")
async def reason_of_an_escalation(scene: Scene) -> None:
    """A supervisor gives up: the reason received by its caller."""
    try:
        async with Supervisor(max_restarts=0) as sup:
            await scene.start(sup, "it")
            scene.observe()
            await scene.fail("it")
    except ExceptionGroup as group:
        [error] = group.exceptions
        assert isinstance(error, RestartsExceeded)
        causes = [type(cause).__name__ for cause in error.errors]
        scene.say(f"the block raises RestartsExceeded: child {error.child}, errors {', '.join(causes)}")


@differs("the list of children")
async def list_of_children(scene: Scene) -> None:
    """The list of children a, b and c, started in this order."""
    async with scene.supervisor() as sup:
        await scene.start(sup, *"abc")
        scene.observe()
        scene.say(", ".join(child.name for child in sup.children()))
