"""A random tree of supervisors in virtual time, each followed by a model of the rules.

All times are multiples of a sixteenth of a second, which floats represent exactly, so that events often coincide with
the edges of a rule.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest

from aiosupervise import (
    Child,
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    Supervisor,
    alive,
    listen,
    ready,
)
from aiosupervise._supervisor.child_state import RestartType
from aiosupervise._supervisor.registry import RestartStrategy

from .loops import VirtualLoop
from .otp_model import Model, ModelChild, Request, Settings

DEPTH = 3
TICK = 1 / 16
STRATEGIES: list[RestartStrategy] = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
RESTARTS: list[RestartType] = ["permanent", "permanent", "transient", "temporary"]
SUPERVISOR_EVENTS = (ChildStarted, ChildExited, ChildReady, ChildStalled, ChildRestarted, ChildStopped, Escalated)


def notes_of(error: BaseException) -> list[str]:
    """The notes on an error."""
    return getattr(error, "__notes__", [])


class Branch(NamedTuple):
    """A supervisor, its model and its children."""

    name: str
    sup: Supervisor
    model: Model
    depth: int
    children: list[tuple[Child, ModelChild]]  # the latest, forgotten ones included


class Tree:
    """A random tree of supervisors, determined by its seed."""

    def __init__(self, seed: int, length: float) -> None:
        self.random = random.Random(seed)
        self.events = Counter[str]()
        self.most = 0  # children at once
        self._length = length
        self._branches: dict[str, Branch] = {}
        self._made = 0
        self._limits = 0
        self._running: set[tuple[str, str]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    async def play(self) -> None:
        """Play the tree to its end."""
        with listen(self._on_event), suppress(ExceptionGroup, LookupError, TimeoutError):
            async with asyncio.timeout(self._length):
                await self._supervise("root", 0)
        if self._requests:
            await asyncio.wait(self._requests)
        if self._failure is not None:
            raise self._failure
        assert not self._running
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks were left behind"

    def _on_event(self, event: Event) -> None:
        if isinstance(event, SUPERVISOR_EVENTS) and self._failure is None:
            self.events[type(event).__name__] += 1
            with self._first_failure():
                branch = self._branches[event.name]
                machine: Any = branch.sup._machine
                # A cancellation stops a supervisor without an event; giving up has one.
                is_stopping = machine.is_stopping() and machine.error is None
                branch.model.on_event(event, self._now(), is_stopping=is_stopping)

    @contextmanager
    def _first_failure(self) -> Iterator[None]:
        """Keep the first broken rule: raised here, it would only end a child or reach a handler."""
        try:
            yield
        except (AssertionError, LookupError) as error:
            self._failure = self._failure or error

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _ticks(self, least: int, most: int) -> float:
        return self.random.randint(least, most) * TICK

    # Supervisors.

    async def _supervise(self, path: str, depth: int) -> None:
        branch = self._branch(path, depth)
        left_early = raised = False
        try:
            async with branch.sup as sup:
                for _ in range(self.random.randint(4, 6)):
                    self._start(branch, can_be_supervisor=True)
                await self._body(sup, depth)
        except BaseException as error:
            left_early = True
            # A cancellation from outside takes precedence; the error of the supervisor is a note on it.
            raised = isinstance(error, ExceptionGroup) or any("had escalated" in note for note in notes_of(error))
            raise
        finally:
            with self._first_failure():
                branch.model.finish(raised=raised, left_early=left_early)
            del self._branches[branch.name]

    def _branch(self, path: str, depth: int) -> Branch:
        rare = depth == 0  # the whole tree ends with its root
        most = self.random.choice([None, 200]) if rare else self.random.choice([0, 1, 2, 3, 3, 5, 8, None])
        delays = [self._ticks(0, 8) for _ in range(self.random.randint(1, 4))]
        strategy = self.random.choice(STRATEGIES)
        settings = Settings(strategy, most, self._ticks(4, 64), self._ticks(4, 64), delays)
        self._made += 1
        name = f"{path}#{self._made}"
        sup = Supervisor(
            strategy=settings.strategy,
            max_restarts=settings.max_restarts,
            within=settings.within,
            reset_after=settings.reset_after,
            backoff=settings.delays,
            grace=self._ticks(0, 16),
            name=name,
        )
        branch = self._branches[name] = Branch(name, sup, Model(settings), depth, [])
        return branch

    async def _body(self, sup: Supervisor, depth: int) -> None:
        await asyncio.sleep(self._ticks(0, 2000) if depth else 2 * self._length)
        match self.random.choice(["leave", "fail", "stop", "stop and wait", "wait"]):
            case "fail":
                raise LookupError
            case "stop":
                self._stop(sup)
            case "stop and wait":
                await self._stop(sup)
            case "wait":
                await sup.wait()

    def _stop(self, sup: Supervisor) -> Any:
        next(branch for branch in self._branches.values() if branch.sup is sup).model.stop_called = True
        return sup.stop()

    # Children.

    def _start(self, branch: Branch, *, can_be_supervisor: bool = False) -> None:
        """Start a child; its name may be taken."""
        nested = branch.depth + 1 < DEPTH and can_be_supervisor and self.random.random() < 0.8
        name = f"{branch.depth}.{self.random.randint(0, 15)}"
        restart = self.random.choice(RESTARTS[:3] if nested else RESTARTS)
        ready = None if nested else self._limit()
        heartbeat = None if nested else self._limit()
        grace = self._ticks(0, 48) if nested else self.random.choice([None, self._ticks(0, 32)])
        machine: Any = branch.sup._machine
        if name in branch.model.children or machine.is_stopping():
            with pytest.raises((ValueError, RuntimeError)):
                branch.sup.start(asyncio.sleep, 0, name=name)
            return
        with self._first_failure():
            known = branch.model.on_start(name, restart, ready, heartbeat, self._now())
            child = branch.sup.start(
                self._child,
                branch,
                name,
                nested,
                restart=restart,
                name=name,
                grace=grace,
                ready=ready,
                heartbeat=heartbeat,
            )
            branch.model.on_added(known, self._now(), is_waiting=child.state == "waiting")
            branch.children.append((child, known))
            del branch.children[:-12]

    def _limit(self) -> float | None:
        """A time to become ready or to be alive; no two end at once, so that the model knows which has ended."""
        if self.random.random() < 0.75:
            return None
        self._limits += 1
        return self._ticks(4, 96) + self._limits * 2**-24

    async def _child(self, branch: Branch, name: str, nested: bool) -> None:  # noqa: FBT001 - Supervisor.start passes no keywords
        key = (branch.name, name)
        if self._failure is not None:
            await asyncio.sleep(self._length)
        if key in self._running:
            self._failure = self._failure or AssertionError(f"{key} runs twice")
        self._running.add(key)
        self.most = max(self.most, len(self._running))
        try:
            await (self._supervise(name, branch.depth + 1) if nested else self._work(branch, name))
        finally:
            self._running.remove(key)

    async def _work(self, branch: Branch, name: str) -> None:
        try:
            for _ in range(self.random.randint(0, 3)):
                await asyncio.sleep(self._ticks(0, 64))
                with self._first_failure():
                    branch.model.on_alive(branch.model.children[name], self._now())
                alive()
                if self.random.random() < 0.7:
                    ready()
                self._interfere(branch)
            await self._end()
        except asyncio.CancelledError:
            await self._clean_up()
            raise

    async def _end(self) -> None:
        match self.random.choice(["return", "raise", "cancel", "cancel a future", "run on", "run on"]):
            case "raise":
                raise OSError
            case "cancel":
                raise asyncio.CancelledError
            case "cancel a future":
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future
            case "run on":
                await asyncio.sleep(self._ticks(0, 800))

    async def _clean_up(self) -> None:
        """End at once, after a while, with an error, or only at the second cancellation."""
        match self.random.choice(["at once", "at once", "slowly", "badly", "never"]):
            case "slowly":
                await asyncio.sleep(self._ticks(0, 24))
            case "badly":
                await asyncio.sleep(self._ticks(0, 4))
                raise LookupError
            case "never":
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(1000)

    # Requests.

    def _interfere(self, branch: Branch) -> None:
        """Start, restart or stop a child, a forgotten one too, or stop the supervisor."""
        what = self.random.random()
        if what < 0.3:
            self._start(branch)
        elif what < 0.5:
            self._request(branch, "restart")
        elif what < 0.7:
            self._request(branch, "stop")
        elif what < 0.71 and branch.depth:
            self._stop(branch.sup)
        self._check(branch)

    def _request(self, branch: Branch, request: Request) -> None:
        child, known = self.random.choice(branch.children)
        machine: Any = branch.sup._machine
        is_replaced = branch.model.children.get(child.name, known) is not known
        if request == "restart" and (is_replaced or machine.is_stopping()):
            with pytest.raises(RuntimeError):
                child.restart()
            return
        with self._first_failure():
            branch.model.on_request(known, request, is_stopping=machine.is_stopping() and machine.error is None)
            answer = child.stop() if request == "stop" else child.restart()
            branch.model.on_requested(known, request, self._now())

        async def wait() -> None:
            with suppress(RuntimeError):
                await answer

        task = asyncio.get_running_loop().create_task(wait())
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    def _check(self, branch: Branch) -> None:
        """Compare the children of the supervisor with those of the model."""
        with self._first_failure():
            names = [child.name for child in branch.sup.children()]
            assert names == [*branch.model.children], "the order is not that of the starts"


def play(seed: int, length: float) -> Tree:
    """Play one tree."""
    loop = VirtualLoop()
    loop_errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: loop_errors.append(context))
    tree = Tree(seed, length)
    try:
        loop.run_until_complete(tree.play())
    except BaseException as error:
        error.add_note(f"the seed was {seed}")
        raise
    finally:
        loop.close()
    assert loop_errors == [], f"the seed was {seed}"
    return tree


def test_a_random_tree_follows_the_rules(
    counts: Counter[str], caplog: pytest.LogCaptureFixture, *, thorough: bool
) -> None:
    """Each supervisor of a random tree follows OTP's rules, and leaves nothing behind."""
    wanted = 1_000_000 if thorough else 10_000
    seed, events = random.SystemRandom().randrange(2**32), Counter[str]()
    print(f"\nthe first seed is {seed}")  # noqa: T201
    caplog.set_level(logging.CRITICAL, "aiosupervise.supervisor")
    while events.total() < wanted:
        tree = play(seed, length=200.0)
        events += tree.events
        counts["random tree: trees"] += 1
        counts["random tree: most children at once"] = max(counts["random tree: most children at once"], tree.most)
        seed += 1
    for what, count in events.items():
        counts[f"random tree: {what}"] += count
    assert [kind.__name__ for kind in SUPERVISOR_EVENTS if not events[kind.__name__]] == []
