"""The Python side of programs/scene.erl: children that say what they do, and a supervisor that has them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiosupervise import Child, RestartsExceeded, Supervisor, ready

# Those of scene.erl, but for the delay before a restart, which OTP does not have.
SETTINGS: dict[str, Any] = {"max_restarts": 10, "within": 5.0, "backoff": [0]}
STATES = {"running": "runs", "waiting": "waits"}


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a child does, as scene.erl has it; times are in seconds.

    Attributes:
        clean_up: the time between the stop and the end.
        clean_up_fails: whether it raises an error when it is stopped.
        starts_in: the time until it is ready; None if nobody waits for that.
        broken_runs: the numbers of its runs that fail before they are ready.
        quiet: whether it says nothing.

    """

    clean_up: float = 0
    clean_up_fails: bool = False
    starts_in: float | None = None
    broken_runs: Sequence[int] = ()
    quiet: bool = False

    @property
    def ready(self) -> float | None:
        """The `ready=` of a child, for which a start function that returns stands in OTP."""
        return None if self.starts_in is None and not self.broken_runs else 60.0


PLAIN = Behaviour()


class Scene:
    """What is said, and the children by their names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.supervisors: dict[str, Supervisor] = {}
        self._orders: dict[str, asyncio.Future[str]] = {}
        self._runs: Counter[str] = Counter()
        self._origin = 0.0

    # Supervisors

    @asynccontextmanager
    async def supervisor(self, **settings: Any) -> AsyncIterator[Supervisor]:
        """A supervisor that is stopped at the end of the block, which is not said any more."""
        try:
            async with Supervisor(**SETTINGS | settings) as sup:
                yield sup
                lines, self.lines = self.lines, []
                await sup.stop()
                self.lines = lines
        except ExceptionGroup as group:
            assert group.subgroup(RestartsExceeded)  # noqa: PT017 - one of two endings
            self.say("the supervisor gives up")

    async def start(self, sup: Supervisor, *names: str, behaviour: Behaviour = PLAIN, **settings: Any) -> Child:
        """Start children of these names; return the last of them."""
        for name in names:
            child = sup.start(self.child(name, behaviour), name=name, ready=behaviour.ready, **settings)
        await self.settle()
        return child

    def tree(self, name: str, *children: str, **settings: Any) -> Callable[[], Coroutine[object, None, None]]:
        """Return a child that is a supervisor of these children."""

        async def branch() -> None:
            self.say(f"{name} starts")
            async with Supervisor(**SETTINGS | settings) as sup:
                self.supervisors[name] = sup
                for child in children:
                    sup.start(self.child(child), name=child)
                await asyncio.Event().wait()

        return branch

    # Children

    def child(self, name: str, behaviour: Behaviour = PLAIN) -> Callable[[], Coroutine[object, None, None]]:
        """Return the function of a child."""
        return partial(self._run, name, behaviour)

    async def _run(self, name: str, behaviour: Behaviour) -> None:
        try:
            await self._begin(name, behaviour)
            order = self._orders[name] = asyncio.get_running_loop().create_future()
            what = await order
        except asyncio.CancelledError:
            await self._clean_up(name, behaviour)
            raise
        self._say_as(name, what, behaviour)
        if what == "fails":
            raise OSError("broken")
        if what == "raises CancelledError":
            raise asyncio.CancelledError

    async def _begin(self, name: str, behaviour: Behaviour) -> None:
        self._runs[name] += 1
        self._say_as(name, "starts", behaviour)
        await asyncio.sleep(behaviour.starts_in or 0)
        if self._runs[name] in behaviour.broken_runs:
            self._say_as(name, "fails", behaviour)
            raise OSError("broken")
        if behaviour.starts_in is not None:
            self._say_as(name, "is ready", behaviour)
        ready()

    async def _clean_up(self, name: str, behaviour: Behaviour) -> None:
        self._say_as(name, "stops", behaviour)
        if behaviour.clean_up_fails:
            self._say_as(name, "fails in its clean-up", behaviour)
            raise OSError("broken")
        if behaviour.clean_up:
            await asyncio.sleep(behaviour.clean_up)
            self._say_as(name, "has stopped", behaviour)

    # Actions

    async def fail(self, name: str) -> None:
        """Let a child fail."""
        await self.command(name, "fails")

    async def leave(self, name: str) -> None:
        """Let a child return."""
        await self.command(name, "returns")

    async def command(self, name: str, what: str) -> None:
        """Let a child end in this way."""
        self._orders[name].set_result(what)
        await self.settle()

    async def together(self, *names: str) -> None:
        """Let children fail in the same turn of the event loop, in this order."""
        for name in names:
            self._orders[name].set_result("fails")
        await self.settle()

    async def settle(self) -> None:
        """Let the supervisor and its children do what is to be done."""
        await asyncio.sleep(0.1)

    def align(self) -> None:
        """Count the seconds of `at` from now on."""
        self._origin = asyncio.get_running_loop().time()

    async def at(self, seconds: float) -> None:
        """Wait until this time."""
        await asyncio.sleep(self._origin + seconds - asyncio.get_running_loop().time())

    # Words

    def say(self, words: str) -> None:
        """Add a line."""
        self.lines.append(words)

    def _say_as(self, name: str, what: str, behaviour: Behaviour) -> None:
        if not behaviour.quiet:
            self.say(f"{name} {what}")

    def observe(self) -> None:
        """Say that what is said before is how the scene is set."""
        self.say("--")

    def children(self, sup: Supervisor) -> None:
        """Say which children there are, in start order."""
        states = [f"{child.name} {STATES.get(child.state, 'does not run')}" for child in sup.children()]
        self.say(", ".join(states) or "no child is known")

    async def outcome(self) -> None:
        """Say that the supervisor runs; one that has given up has ended the program of its twin before."""
        await asyncio.sleep(0.2)
        self.say("the supervisor runs")
