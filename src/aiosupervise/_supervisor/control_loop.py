r"""The keeper: the task that starts, stops and restarts the children of a supervisor.

Theory of operation. Ends of children, what users ask for, and waits that are over come as steps into one inbox. The
keeper takes one step after the other, as an OTP supervisor takes its messages: a step that stops a child can take that
child's grace, and never meets another step half-way.

    running -> (ends by itself) -> waiting -> running
       |                       \-> ended, failed
       \-> stopping -> stopped

Laws, each with a test:
- A child is cancelled once, and a second time only when its grace is over. When the loop shuts down, it cancels every
  task: a keeper cancelled by somebody else tells that the children have been cancelled too.
- The keeper ends only when no child runs.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from aiosupervise._call.tasks import cancellation, outlast, task_maker
from aiosupervise._policy.backoff import BackoffLike, delay_before
from aiosupervise._policy.errors import RestartsExceeded

from .child_state import Record
from .events import Herald
from .intensity import Intensity
from .mailbox import Inbox, Order, RefusedError
from .registry import Roster, Strategy
from .timers import Wait, Waits


@dataclass(frozen=True, slots=True)
class Rules:
    """How a supervisor keeps its children."""

    strategy: Strategy
    max_restarts: int | None
    within: float
    backoff: BackoffLike
    name: str


class Keeper:
    """Keeps the children of one supervisor."""

    def __init__(self, rules: Rules, herald: Herald, gave_up: Callable[[], None]) -> None:
        self.roster = Roster()
        self.error: BaseException | None = None  # why it gave up
        self.ended = asyncio.Event()
        self._rules = rules
        self._herald = herald
        self._gave_up = gave_up
        self._intensity = Intensity(rules.max_restarts, rules.within)
        self._inbox = Inbox()
        self._waits = Waits()
        self._idle = asyncio.Event()
        self._is_stopping = False
        self._is_left = False
        self._is_cancelled = False
        self._loop = asyncio.get_running_loop()
        self._new_task = task_maker(self._loop)
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the task."""
        self._task = self._loop.create_task(self._run(), name=f"{self._rules.name} keeper")
        self._task.add_done_callback(self._make_sure)

    def _make_sure(self, task: asyncio.Task[None]) -> None:
        """End the children of a keeper that was cancelled before its first step, and so never was."""
        if not self.ended.is_set():
            self._is_cancelled = True
            self._task = self._loop.create_task(self._end_all(), name=task.get_name())

    # What the supervisor and the children ask for.

    @property
    def is_over(self) -> bool:
        """Whether nothing can be started any more."""
        return self._is_stopping or self._shut_down() or self.ended.is_set()

    def add(self, record: Record, coroutine: Coroutine[object, None, object]) -> None:
        """Start a new child."""
        self.roster.add(record)
        self._launch(record, coroutine)

    def stop(self) -> None:
        """Stop all children, and end."""
        self._is_stopping = True
        self._inbox.wake()

    def leave(self) -> None:
        """End when all children have ended."""
        self._is_left = True
        self._inbox.wake()

    async def join(self) -> None:
        """Wait until it has ended; a caller that is cancelled meanwhile stops it, and still waits."""
        task = self._task
        assert task is not None  # noqa: S101 - for the type checkers
        try:
            await outlast(task, self.stop)
        finally:
            if self._task is not None and self._task is not task:
                await outlast(self._task, self.stop)

    async def idle(self) -> None:
        """Wait until no child runs, or waits to run."""
        while self._has_work():
            self._idle.clear()
            await self._idle.wait()

    def stop_child(self, record: Record) -> Awaitable[None]:
        """Stop a child."""
        return self._inbox.put(partial(self._stop_one, record))

    def restart_child(self, record: Record) -> Awaitable[None]:
        """Stop a child, if it runs, and start it."""
        refusal = f"{record.name} cannot be restarted: its supervisor has stopped"
        if self.is_over:
            raise RuntimeError(refusal)
        if self.roster.has_another(record):
            raise RuntimeError(f"{record.name} has ended, and another child has its name now")
        return self._inbox.put(partial(self._restart_one, record), refusal)

    # The task.

    async def _run(self) -> None:
        while not self.is_over and (self._inbox or not self._is_left or self._has_work()):
            try:
                if order := await self._inbox.next():
                    await self._carry_out(order)
            except asyncio.CancelledError:
                self.stop()
        await self._end_all()

    async def _carry_out(self, order: Order) -> None:
        try:
            await order.step()
        except RefusedError:
            order.close(refused=True)
        except (Exception, asyncio.CancelledError) as error:  # of a backoff of the user's
            self._give_up(error)
        order.close()  # unless it has been refused
        if not self._has_work():
            self._idle.set()

    async def _end_all(self) -> None:
        for record in reversed([*self.roster]):
            self._waits.leave(record)
            await self._end(record)
        for record in self.roster:
            record.func = _nothing_more  # it may hold the supervisor
        self._gave_up = _nothing  # the supervisor, which holds this
        self.ended.set()
        self._idle.set()
        self._inbox.close()

    def _has_work(self) -> bool:
        return not self.ended.is_set() and any(record.is_alive for record in self.roster)

    def _shut_down(self) -> bool:
        """Tell whether somebody else has cancelled the keeper, and so every task of the loop."""
        return self._is_cancelled or (self._task is not None and self._task.cancelling() > 0)

    # The steps.

    async def _exited(self, record: Record, task: asyncio.Task[object]) -> None:
        """A child has ended by itself, unless it was stopped meanwhile."""
        if record.task is not task:
            return
        error = _error_of(task)
        record.task = None
        record.last_error = record.last_error if error is None else error
        self._herald.exited(record, error)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._give_up(error)
        elif record.type == "permanent" or (record.type == "transient" and error is not None):
            await self._restart(record, error)
        else:
            record.become("ended" if error is None else "failed", self._loop.time())
            self.roster.let_go(record)

    async def _restart(self, record: Record, error: BaseException | None) -> None:
        """Restart a child that has ended, and those siblings that the strategy names, if it is not once too often."""
        now = self._loop.time()
        if now - record.since >= self._rules.within:
            record.quick = 0
        record.become("stopped", now)
        if not self._intensity.allows(record.clock, now, error):
            self._escalate(record)
            return
        delay = delay_before(self._rules.backoff, record.quick, _as_error(record, error))
        record.quick += 1
        group = self.roster.restarted_with(record, self._rules.strategy)
        for sibling in reversed(group):
            await self._end(sibling)
            self.roster.let_go(sibling)
        self._wait([one for one in group if one in self.roster], delay)

    async def _stop_one(self, record: Record) -> None:
        self._waits.leave(record)
        await self._end(record)
        self.roster.let_go(record)

    async def _restart_one(self, record: Record) -> None:
        if self.roster.has_another(record):
            raise RefusedError
        self._waits.leave(record)
        await self._end(record)
        if self.is_over:
            raise RefusedError
        self.roster.add(record)  # which has been forgotten, if it is a temporary one
        self._launch(record)

    async def _start_group(self, wait: Wait) -> None:
        for record in self._waits.end(wait):
            self._launch(record, again=True)

    # Their parts.

    def _wait(self, group: list[Record], delay: float) -> None:
        """Start a group after the delay, unless the supervisor has been stopped meanwhile."""
        if self.is_over:
            return
        for record in group:
            self._waits.leave(record)
            record.become("waiting", self._loop.time())
        self._waits.begin(group, delay, lambda wait: self._inbox.put(partial(self._start_group, wait)))

    def _launch(
        self, record: Record, coroutine: Coroutine[object, None, object] | None = None, *, again: bool = False
    ) -> None:
        record.restarts += again
        task = self._new_task(coroutine or _call(record.func), name=record.name, context=record.context.copy())
        record.task = task
        record.become("running", self._loop.time())
        self._herald.launched(record, again=again)
        task.add_done_callback(lambda task: self._inbox.put(partial(self._exited, record, task)))

    async def _end(self, record: Record) -> None:
        """Stop a child, however long that takes: cancel it, and once more when its grace is over."""
        task = record.task
        if task is not None:
            record.become("stopping", self._loop.time())
            if not self._shut_down():
                task.cancel()
            await self._done_within(record.grace, task)
            if not task.done():
                self._loop.call_soon(_warn, record)  # where warnings are errors, it must not end the waiting
                task.cancel()
                await self._done_within(None, task)
            record.task = None
            error = None if task.cancelled() else task.exception()
            record.last_error = record.last_error if error is None else error
            self._herald.stopped(record, error)
        if record.is_alive:
            record.become("stopped", self._loop.time())

    async def _done_within(self, seconds: float | None, task: asyncio.Task[object]) -> None:
        """Wait for a task for some seconds, None for ever; a keeper that is cancelled meanwhile waits on."""
        until = None if seconds is None else self._loop.time() + seconds
        while not task.done():
            left = None if until is None else max(until - self._loop.time(), 0)
            try:
                await asyncio.wait([task], timeout=left)  # a turn of the loop even where no time is left
            except asyncio.CancelledError:
                self.stop()
            if left == 0:
                return

    def _escalate(self, record: Record) -> None:
        errors = tuple(self._intensity.errors(record.clock))
        assert self._rules.max_restarts is not None  # noqa: S101 - for the type checkers
        exceeded = RestartsExceeded(record.name, errors, self._rules.max_restarts, self._rules.within)
        exceeded.__cause__ = errors[-1] if errors else None
        self._herald.escalated(record, exceeded)
        self._give_up(exceeded)

    def _give_up(self, error: BaseException) -> None:
        self.error = error
        self.stop()
        self._gave_up()


def _error_of(task: asyncio.Task[object]) -> BaseException | None:
    return cancellation(task) if task.cancelled() else task.exception()


def _as_error(record: Record, error: BaseException | None) -> Exception:
    """Return what a backoff of the user's is asked about."""
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"{record.name} {'returned' if error is None else 'was cancelled from inside'}")


def _warn(record: Record) -> None:
    text = f"cancelled {record.grace:g} s ago and still running, so it is cancelled again: {record.name}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _nothing() -> None:
    """Do nothing."""


async def _nothing_more() -> None:
    """Do nothing: the function of a child whose supervisor has ended."""


async def _call(func: Callable[[], Coroutine[object, None, object]]) -> object:
    """Call a child's function inside of its task, so that it is the child that fails if it cannot be called."""
    return await func()
