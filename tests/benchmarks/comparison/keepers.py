"""The libraries that keep long-lived tasks, each said to do so in its own words."""

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import aiosupervise

from .answers import Library, by_hand, until

Func = Callable[[], Coroutine[Any, Any, Any]]
Beat = Callable[[], None]


class TooOftenError(Exception):
    """What a restart loop written by hand raises in the end."""


def restarted(func: Func, *, most: int = 1000, within: float = 5.0) -> Func:
    """Run a function again when it fails: what a user writes who wants restarts."""
    times: deque[float] = deque(maxlen=most)

    async def child() -> None:
        while True:
            try:
                await func()
            except Exception as error:
                if len(times) == most and time.monotonic() - times[0] < within:
                    raise TooOftenError from error
                times.append(time.monotonic())
                await asyncio.sleep(0.001)
            else:
                return

    return child


def alive_after(funcs: list[Func]) -> list["weakref.ref[Func]"]:
    """Drop the functions, and return weak references that show whether they are freed."""
    references = [weakref.ref(func) for func in funcs]
    funcs.clear()
    return references


class Keeper(Library):
    """What probes ask of a library that keeps tasks."""

    async def keep(self, *funcs: Func) -> Any:
        """Run children that are not restarted until all have ended, or the caller is cancelled."""
        raise NotImplementedError

    @by_hand
    async def keep_restarted(self, func: Func) -> None:
        """Run a child that is run again when it fails."""
        await self.keep(restarted(func))

    @by_hand
    async def keep_together(self, *funcs: Func) -> None:
        """Run children that are all restarted when one fails: by hand, a loop around a group."""
        await restarted(lambda: self.keep_grouped(*funcs))()

    @by_hand
    async def keep_in_order(self, *funcs: Func) -> None:
        """Restart those that were started after the one that failed: by hand, a group in a loop in a group."""
        first, *rest = funcs
        await restarted(lambda: self.keep_grouped(first, *([lambda: self.keep_in_order(*rest)] if rest else [])))()

    @by_hand
    async def keep_until(self, most: int, *funcs: Func) -> None:
        """Run children, of which the first is restarted so often within 5 s, no more."""
        await self.keep_strictly(restarted(funcs[0], most=most), *funcs[1:])

    async def keep_strictly(self, *funcs: Func) -> None:
        """Run children, and stop all when one raises."""
        await self.keep(*funcs)

    async def keep_reversed(self, *funcs: Func) -> None:
        """Run children that are stopped one after the other, the last one first."""
        await self.keep(*funcs)

    def protected(self) -> AbstractContextManager[Any]:
        """Give what the library says to put around clean-up that awaits."""
        return nullcontext()

    async def keep_grouped(self, *funcs: Func) -> None:
        """Do that, and raise an Exception."""
        await self.keep_strictly(*funcs)

    @by_hand
    async def ready(self, func: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        """Start a child, and give what it says when it is ready: by hand, a future."""
        said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def child() -> None:
            await func(said.set_result)

        task = asyncio.ensure_future(self.keep(child))
        first = await said
        task.cancel()
        await asyncio.wait({task})
        return first

    ready_how = "a future"

    @by_hand
    async def keep_beating(self, func: Callable[[Beat], Coroutine[Any, Any, Any]], seconds: float) -> None:
        """Restart a child that sends no heartbeat for this long: by hand, a timeout that each heartbeat postpones."""

        async def child() -> None:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(seconds) as limit:
                await func(lambda: limit.reschedule(loop.time() + seconds))

        await self.keep_restarted(child)

    @by_hand
    async def keep_stubborn(self, func: Func) -> None:
        """Run a child that swallows a cancellation: by hand, a loop that cancels it until it has ended."""
        child = asyncio.create_task(func())
        try:
            await asyncio.Event().wait()
        finally:
            while not child.done():
                child.cancel()
                await asyncio.wait({child}, timeout=1.0)

    async def come_and_go(self, funcs: list[Func]) -> bool:
        """Whether children that have ended are kept, while the others may still come."""
        raise NotImplementedError

    async def stop_one(self, func: Func) -> None:
        """Start two children, stop the first one, and return when the other has ended."""
        raise NotImplementedError

    async def failures(self, func: Func) -> tuple[bool, str]:
        """Run a child that fails; return whether its error is reported, and how."""
        raise NotImplementedError


class Aiosupervise(Keeper):
    """Ours."""

    name = package = module = "aiosupervise"

    async def keep(self, *funcs: Func) -> Any:
        async with aiosupervise.Supervisor() as sup:
            for func in funcs:
                sup.start(func, restart="temporary")

    async def keep_restarted(self, func: Func) -> None:
        async with aiosupervise.Supervisor(max_restarts=None, backoff=[0]) as sup:
            sup.start(func)

    async def keep_together(self, *funcs: Func) -> None:
        async with aiosupervise.Supervisor(strategy="one_for_all", max_restarts=None, backoff=[0]) as sup:
            for func in funcs:
                sup.start(func)

    async def keep_in_order(self, *funcs: Func) -> None:
        async with aiosupervise.Supervisor(strategy="rest_for_one", max_restarts=None, backoff=[0]) as sup:
            for func in funcs:
                sup.start(func)

    async def keep_until(self, most: int, *funcs: Func) -> None:
        async with aiosupervise.Supervisor(max_restarts=most, backoff=[0]) as sup:
            for func in funcs:
                sup.start(func)

    ready_how = "`wait_ready()` of the child"

    async def ready(self, func: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        said: list[Any] = []

        def say(what: Any) -> None:
            said.append(what)
            aiosupervise.ready()

        async def child() -> None:
            await func(say)

        async with aiosupervise.Supervisor() as sup:
            await sup.start(child, ready=1.0).wait_ready()
            sup.stop()
        return said[0]

    async def keep_beating(self, func: Callable[[Beat], Coroutine[Any, Any, Any]], seconds: float) -> None:
        async with aiosupervise.Supervisor(backoff=[0]) as sup:
            sup.start(func, aiosupervise.alive, heartbeat=seconds)

    async def keep_stubborn(self, func: Func) -> None:
        async with aiosupervise.Supervisor(grace=1.0) as sup:
            sup.start(func)

    async def come_and_go(self, funcs: list[Func]) -> bool:
        async with aiosupervise.Supervisor(strategy="simple_one_for_one") as sup:
            for func in funcs:
                sup.start(func, restart="transient")
            del func
            await sup.wait()
            return any(reference() for reference in alive_after(funcs))

    async def stop_one(self, func: Func) -> None:
        async with aiosupervise.Supervisor() as sup:
            first = sup.start(func, restart="transient")
            sup.start(func, restart="transient")
            await asyncio.sleep(0)
            await first.stop()

    async def failures(self, func: Func) -> tuple[bool, str]:
        events: list[aiosupervise.Event] = []
        with aiosupervise.listen(events.append):
            await self.keep(func)
        exits = [event.error for event in events if isinstance(event, aiosupervise.ChildExited)]
        return any(isinstance(error, ValueError) for error in exits), "an event"


class Aiotools(Keeper):
    """aiotools: Supervisor, whose children don't harm each other, and TaskGroup."""

    name = package = module = "aiotools"

    def __init__(self) -> None:
        self.lib = import_module("aiotools")

    async def keep(self, *funcs: Func) -> Any:
        async with self.lib.Supervisor() as sup:
            for func in funcs:
                sup.create_task(func())

    async def keep_strictly(self, *funcs: Func) -> None:
        async with self.lib.TaskGroup() as group:
            for func in funcs:
                group.create_task(func())

    async def keep_grouped(self, *funcs: Func) -> None:
        try:
            await self.keep_strictly(*funcs)
        except self.lib.TaskGroupError as group:  # no Exception
            raise RuntimeError from group

    @by_hand
    async def keep_reversed(self, *funcs: Func) -> None:
        async with self.lib.Supervisor() as sup:
            tasks = [sup.create_task(func()) for func in funcs]
            try:
                await asyncio.Event().wait()
            finally:
                for task in reversed(tasks):
                    await self.lib.cancel_and_wait(task)

    async def come_and_go(self, funcs: list[Func]) -> bool:
        async with self.lib.Supervisor() as sup:
            tasks = [sup.create_task(func()) for func in funcs]
            await asyncio.wait(tasks)
            tasks.clear()
            await asyncio.sleep(0)
            return any(reference() for reference in alive_after(funcs))

    async def stop_one(self, func: Func) -> None:
        async with self.lib.Supervisor() as sup:
            first = sup.create_task(func())
            sup.create_task(func())
            await asyncio.sleep(0)
            await self.lib.cancel_and_wait(first)

    async def failures(self, func: Func) -> tuple[bool, str]:
        reported: list[Any] = []
        loop = asyncio.get_running_loop()
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))
        try:
            await self.keep(func)
            dropped = not reported
            async with self.lib.TaskScope() as scope:
                scope.create_task(func())
        finally:
            loop.set_exception_handler(before)
        seen = (
            f"Supervisor {'drops' if dropped else 'reports'} it; TaskScope reports it to the loop's exception handler"
        )
        return any(isinstance(error, ValueError) for error in reported), seen


class Anyio(Keeper):
    """anyio: a task group, which ends all when one fails."""

    name = package = module = "anyio"

    def __init__(self) -> None:
        self.lib = import_module("anyio")

    async def keep(self, *funcs: Func) -> Any:
        async with self.lib.create_task_group() as group:
            for func in funcs:
                group.start_soon(func)

    @by_hand
    async def keep_reversed(self, *funcs: Func) -> None:
        async with self.lib.create_task_group() as group:
            handles = [group.start_soon(func) for func in funcs]
            try:
                await asyncio.Event().wait()
            finally:
                with self.protected():
                    for handle in reversed(handles):
                        handle.cancel()
                        await handle.wait()

    def protected(self) -> AbstractContextManager[Any]:
        return self.lib.CancelScope(shield=True)  # type: ignore[no-any-return]

    ready_how = "`start` waits for `task_status.started`"

    async def ready(self, func: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def child(task_status: Any) -> None:
            await func(task_status.started)

        async with self.lib.create_task_group() as group:
            first = await group.start(child)
            group.cancel_scope.cancel()
        return first

    async def keep_stubborn(self, func: Func) -> None:
        await self.keep(func)

    async def come_and_go(self, funcs: list[Func]) -> bool:
        async with self.lib.create_task_group() as group:
            for func in funcs:
                group.start_soon(func)
            del func
            references = alive_after(funcs)
            await until(lambda: not any(reference() for reference in references))
            return any(reference() for reference in references)

    async def stop_one(self, func: Func) -> None:
        async with self.lib.create_task_group() as group:
            first = group.start_soon(func)
            group.start_soon(func)
            await asyncio.sleep(0)
            first.cancel()
            await first.wait()

    async def failures(self, func: Func) -> tuple[bool, str]:
        try:
            await self.keep(func)
        except ExceptionGroup as group:
            return isinstance(group.exceptions[0], ValueError), "the task group raises it"
        return False, "nothing"


KEEPERS: tuple[type[Keeper], ...] = (Aiosupervise, Aiotools, Anyio)
