"""An independent model of the rules of a supervisor, which checks every event that the supervisor emits."""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aiosupervise import (
    ChildExited,
    ChildReady,
    ChildRestarted,
    ChildStalled,
    ChildStarted,
    ChildStopped,
    Escalated,
)
from aiosupervise._supervisor.child_state import RestartType
from aiosupervise._supervisor.registry import RestartStrategy

Request: TypeAlias = Literal["stop", "restart"]
SupervisorEvent: TypeAlias = (
    ChildStarted | ChildExited | ChildReady | ChildStalled | ChildRestarted | ChildStopped | Escalated
)


@dataclass(frozen=True)
class Settings:
    """The arguments of a supervisor."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
    reset_after: float
    delays: list[float]


@dataclass(eq=False)
class ModelChild:
    """The state of a child in the model."""

    name: str
    type: RestartType
    ready: float | None
    heartbeat: float | None
    running: bool = False
    has_run: bool = False
    is_ready: bool = False
    # Whether it is known to have been cancelled, by a command, its group or a heartbeat.
    is_cancelled: bool = False
    started_at: float = 0.0
    last_beat: float = 0.0
    backoff_count: int = 0
    # Begin and end of each time in which it waited; the end of the present one is infinity.
    delays: list[list[float]] = field(default_factory=list)
    # The last command, until it is carried out.
    command: Request | None = None
    restarts: list[float] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether the child waits to be started."""
        return bool(self.delays) and self.delays[-1][1] == math.inf

    def age(self, since: float, now: float) -> float:
        """The time from `since` to `now`, without the times in which this child waited."""
        waited = sum(max(0.0, min(end, now) - max(begin, since)) for begin, end in self.delays)
        return now - since - waited

    def begin_delay(self, now: float) -> None:
        """Let the child wait from now on."""
        if not self.is_waiting:
            self.delays.append([now, math.inf])

    def end_delay(self, now: float) -> None:
        """Let the child wait no more."""
        if self.is_waiting:
            self.delays[-1][1] = now

    def is_late(self, now: float) -> bool:
        """Whether the child should have been ready."""
        return self.running and not self.is_ready and self.ready is not None and now >= self.started_at + self.ready

    def is_stopping(self, now: float) -> bool:
        """Whether the child has been cancelled."""
        return self.is_cancelled or self.is_late(now)

    def run(self, now: float) -> None:
        """Begin a run."""
        assert not self.running, f"{self.name} runs twice"
        self.end_delay(now)
        self.running = self.has_run = True
        self.is_cancelled = False
        self.is_ready = self.ready is None
        self.started_at = self.last_beat = now

    def end(self) -> None:
        """End a run."""
        assert self.running, f"{self.name} ended twice"
        self.running = self.is_cancelled = False


class ModelGroup:
    """The children that are stopped, and started again, together."""

    def __init__(self) -> None:
        self.members: list[ModelChild] = []
        self.to_stop: list[ModelChild] = []
        # Those that were cancelled before it was their turn, by an earlier restart or by a command.
        self.cancelled: list[ModelChild] = []
        self.to_start = deque[ModelChild]()
        self.delay = 0.0
        # When the members may be started; None if they are not waiting for that.
        self.not_before: float | None = None
        # The member that must be ready before the next one is started.
        self.awaited: ModelChild | None = None
        # Since when it is, or has ended.
        self.released_at: float | None = None
        self.has_ready = False
        # A child that was ready, and restarted at that very time: whether new children wait for it depends on the turns
        # of the loop, of which there are several at one time.
        self.unsure: ModelChild | None = None

    def begin(self, first: ModelChild, group: list[ModelChild], delay: float) -> None:
        """Stop the group of a child that has failed, or the greater group with the one that is under way."""
        is_starting = not self.to_stop and self.not_before is None
        self.delay = delay if is_starting else max(delay, self.delay)
        assert first in group
        self.members = [child for child in group if not (child.running and child.command)]
        self.has_ready = any(child.ready is not None for child in group)
        self.to_stop = group
        self.cancelled = [child for child in group if child.is_cancelled]
        self.to_start.clear()
        self.awaited = self.not_before = self.unsure = None

    def go_on_stopping(self, now: float) -> None:
        """Stop the next members; when all are down, wait."""
        if not self.to_stop:
            return
        while self.to_stop:
            last = self.to_stop[-1]
            if last.running and (last in self.members or last.is_stopping(now)):
                last.is_cancelled = True
                return
            self.to_stop.pop()
            if last in self.members and not last.running:
                last.begin_delay(now)
        self.members = [child for child in self.members if child.is_waiting]
        self.not_before = now + self.delay if self.members else None

    def must_wait(self, child: ModelChild, now: float) -> bool:
        """Whether a new child must wait for its start."""
        if self.awaited is not None and self.released_at in (None, now):
            return True
        return bool(self.members) and (self.has_ready or child.ready is not None)

    def join(self, child: ModelChild, now: float) -> None:
        """Let a new child wait for the members before it."""
        child.begin_delay(now)
        self.has_ready = self.has_ready or child.ready is not None
        self.members.append(child)
        if not self.to_stop and self.not_before is None:
            self.to_start.append(child)

    def leave(self, child: ModelChild) -> None:
        """Take out a child that a command decides about."""
        if child in self.members:
            self.members.remove(child)
        if not self.members and not self.to_stop:
            self.not_before = None

    def start(self, child: ModelChild, now: float) -> None:
        """Check that a member is the next to be started."""
        if self.not_before is not None:
            assert now >= self.not_before, f"{child.name} was restarted before its delay was over"
            self.not_before = None
            self.to_start.extend(self.members)
        self._skip_those_that_left()
        assert self.to_start, f"{child.name} was not to be restarted"
        assert self.to_start.popleft() is child, f"{child.name} was not restarted in start order"
        if self.awaited is not None:
            assert self.released_at is not None, f"{child.name} was started before {self.awaited.name} was ready"
        self.members.remove(child)
        self.wait_for(child, now)

    def wait_for(self, child: ModelChild, now: float) -> None:
        """Let the next one wait for a child that has been started, if it must become ready."""
        self.awaited = child if child.ready is not None else None
        self.released_at = None if child.ready is not None else now

    def release(self, child: ModelChild, now: float) -> None:
        """Note that a child is ready, or will not be."""
        if child is self.unsure:
            self.unsure = None
        if child is self.awaited:
            self.released_at = now

    def hold(self, child: ModelChild, now: float) -> None:
        """Note that a command stops or starts a child; if that is when it became ready or ended, it is waited for."""
        self._skip_those_that_left()
        if child is self.awaited and self.released_at == now:
            self.released_at = None
            if not self.to_start:
                self.awaited, self.unsure = None, child

    def check(self, now: float) -> None:
        """Check that all that should have been started by now was."""
        if self.not_before is not None:
            assert now <= self.not_before, "a group was not restarted when its delay was over"
        self._skip_those_that_left()
        if self.to_start and self.released_at is not None:
            assert now <= self.released_at, "not the whole group was restarted"

    def _skip_those_that_left(self) -> None:
        while self.to_start and self.to_start[0] not in self.members:
            self.to_start.popleft()


class Model:
    """Follows one supervisor, and raises an AssertionError as soon as it breaks a rule."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # In start order.
        self.children: dict[str, ModelChild] = {}
        self.stop_called = self.escalated = self.ending = False
        self._must_escalate = ""
        self._group = ModelGroup()
        # When a child that is restarted by itself is.
        self._restart_at: dict[ModelChild, float] = {}
        # The command that is being given; None when it has been carried out.
        self._calling: tuple[ModelChild, Request] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the supervisor must not start a child any more."""
        return self.ending or self.escalated or self.stop_called

    @property
    def _is_ordered(self) -> bool:
        return self.settings.strategy in ("one_for_all", "rest_for_one")

    # Events.

    def on_event(self, event: SupervisorEvent, now: float, *, is_stopping: bool) -> None:
        """Check an event against the rules, and update the model."""
        self.ending = self.ending or is_stopping
        name, child = event.child, self.children.get(event.child)
        if self._must_escalate:
            assert isinstance(event, Escalated), f"{self._must_escalate} exceeded the limit: {event}"
        self._check_delays(now)
        assert child is not None, f"{name} is not a child: {event}"
        match event:
            case Escalated():
                assert name == self._must_escalate, "it escalated too early"
                self._must_escalate, self.escalated = "", True
            case ChildStarted():
                self._started(child, now)
            case ChildRestarted():
                self._restarted(child, now)
            case ChildExited(error=error):
                self._exited(child, error, now)
            case ChildStopped():
                self._stopped(child, now)
            case ChildReady():
                self._ready(child, now)
            case ChildStalled():
                self._stalled(child, now)

    def _check_delays(self, now: float) -> None:
        if not self.is_over:
            self._group.check(now)
            for child, due in self._restart_at.items():
                assert now <= due, f"{child.name} was not restarted when its delay was over"

    def _started(self, child: ModelChild, now: float) -> None:
        name = child.name
        assert not self.is_over, f"{name} was started in a supervisor that is stopping"
        if self._is_requested(child):
            self._leave(child)
            self._group.hold(child, now)
            if child.command == "restart":
                child.command = None
            else:
                self._calling = None
        else:
            assert not child.has_run, f"{name} was started without a request"
            if child in self._group.members:
                self._group.start(child, now)
            elif self._is_ordered:
                self._group.wait_for(child, now)
        child.run(now)

    def _is_requested(self, child: ModelChild) -> bool:
        is_pending = child.command == "restart" and not child.running
        return is_pending or self._calling == (child, "restart")

    def _restarted(self, child: ModelChild, now: float) -> None:
        name = child.name
        assert not self.is_over, f"{name} was restarted in a supervisor that is stopping"
        assert child.type != "temporary", f"{name} is temporary, and was restarted"
        assert child.has_run, f"{name} was restarted before its first start"
        if self._is_ordered:
            self._group.start(child, now)
        else:
            assert child in self._restart_at, f"{name} was not to be restarted"
            assert now >= self._restart_at.pop(child), f"{name} was restarted before its delay was over"
        child.run(now)

    def _exited(self, child: ModelChild, error: BaseException | None, now: float) -> None:
        child.end()
        will_restart = child.type == "permanent" or (child.type == "transient" and error is not None)
        if self.is_over or not will_restart:
            self._forget(child)
            self._group.release(child, now)
        else:
            child.begin_delay(now)
            if not (self._group.to_stop and child in self._group.members):
                self._add_restart(child, now)
        self._go_on_stopping(now)

    def _stopped(self, child: ModelChild, now: float) -> None:
        is_cancelled = child.is_stopping(now)
        is_grouped = child in self._group.members and child in self._group.to_stop
        assert is_cancelled or self.is_over, f"{child.name} was stopped for no reason"
        child.end()
        if self.is_over:
            self._check_order(child, now, is_cancelled=is_cancelled)
            self._forget(child)
        elif child.command is None:
            assert is_grouped, f"{child.name} was stopped for no reason"
            self._check_group_order(child)
            if child.type != "temporary":
                child.begin_delay(now)
            self._forget(child)
        elif child.command == "stop":
            child.command = None
            self._forget(child)
            self._group.release(child, now)
        self._go_on_stopping(now)

    def _check_order(self, child: ModelChild, now: float, *, is_cancelled: bool) -> None:
        """Check that a child which the end of the supervisor has stopped was the last one that ran."""
        if is_cancelled or self.settings.strategy == "simple_one_for_one":
            return
        children = [*self.children.values()]
        later = [one.name for one in children[children.index(child) :] if one.running]
        assert not later, f"{child.name} was stopped before {later} at {now}"

    def _check_group_order(self, child: ModelChild) -> None:
        if child in self._group.cancelled:
            return
        members = self._group.members
        later = [one.name for one in members[members.index(child) :] if one.running]
        assert not later, f"{child.name} was not stopped in reverse start order: {later} run"

    def _ready(self, child: ModelChild, now: float) -> None:
        assert child.running
        assert not child.is_ready, f"{child.name} became ready twice"
        assert not child.is_stopping(now), f"{child.name} became ready while it was stopped"
        child.is_ready = True
        child.last_beat = now
        self._group.release(child, now)

    def _stalled(self, child: ModelChild, now: float) -> None:
        assert child.running
        assert child.is_ready, f"{child.name} stalled before it was ready"
        assert not child.is_cancelled, f"{child.name} stalled while it was stopped"
        assert child.heartbeat is not None
        assert now - child.last_beat >= child.heartbeat, f"{child.name} was alive"
        child.is_cancelled = True

    def _forget(self, child: ModelChild) -> None:
        """Forget a child that is down, if it is one that is forgotten."""
        if child.is_waiting:
            return
        if child.type == "temporary" or self.settings.strategy == "simple_one_for_one":
            del self.children[child.name]
            self._group.leave(child)
            if self._calling == (child, "restart") and not self.is_over:
                self.children[child.name] = child

    # Restarts.

    def _add_restart(self, child: ModelChild, now: float) -> None:
        most, within = self.settings.max_restarts, self.settings.within
        child.restarts = [since for since in [*child.restarts, now] if child.age(since, now) <= within]
        if most is not None and len(child.restarts) > most:
            self._must_escalate = child.name
            return
        if now - child.started_at >= self.settings.reset_after:
            child.backoff_count = 0
        delay = self.settings.delays[min(child.backoff_count, len(self.settings.delays) - 1)]
        child.backoff_count += 1
        if self._is_ordered:
            self._begin_group(child, delay)
        else:
            self._restart_at[child] = now + delay

    def _go_on_stopping(self, now: float) -> None:
        """Let the group go on, unless the supervisor is stopping: then children are stopped in another order."""
        if not self.is_over:
            self._group.go_on_stopping(now)

    def _begin_group(self, child: ModelChild, delay: float) -> None:
        children = [*self.children.values()]
        first = min([child, *self._group.members], key=children.index)
        since = 0 if self.settings.strategy == "one_for_all" else children.index(first)
        self._group.begin(first, children[since:], delay)

    # Commands and reports, for which there are no events.

    def on_start(
        self, name: str, restart: RestartType, ready: float | None, heartbeat: float | None, now: float
    ) -> ModelChild:
        """Note that a new child is about to be started."""
        assert name not in self.children
        child = self.children[name] = ModelChild(name, restart, ready, heartbeat)
        if self._group.must_wait(child, now):
            self._group.join(child, now)
        return child

    def on_added(self, child: ModelChild, now: float, *, is_waiting: bool) -> None:
        """Note whether a new child waits, where this model cannot know."""
        if is_waiting and not child.is_waiting and self._group.unsure is not None:
            self._group.awaited, self._group.released_at = self._group.unsure, None
            self._group.join(child, now)

    def on_request(self, child: ModelChild, command: Request, *, is_stopping: bool) -> None:
        """Note that a command is about to be given; ends that come now came before it."""
        self.ending = self.ending or is_stopping
        self._calling = (child, command)
        if command == "restart" and child.name not in self.children:
            self.children[child.name] = child

    def on_requested(self, child: ModelChild, command: Request, now: float) -> None:
        """Note that a command has been given."""
        is_done, self._calling = self._calling is None, None
        if is_done or (self.is_over and command == "restart"):
            return
        if child.running:
            child.command = command
            child.is_cancelled = True
            self._leave(child)
            self._group.hold(child, now)
        elif child.is_waiting and not self.is_over:
            child.end_delay(now)
            self._leave(child)
            self._forget(child)
            self._group.release(child, now)
        elif command == "stop":
            self._leave(child)
        self._go_on_stopping(now)

    def _leave(self, child: ModelChild) -> None:
        self._restart_at.pop(child, None)
        self._group.leave(child)

    def on_alive(self, child: ModelChild, now: float) -> None:
        """Note that a child is about to call `alive()`."""
        if child.running and child.is_ready and child.heartbeat is not None and not child.is_cancelled:
            assert now - child.last_beat <= child.heartbeat, f"{child.name} has not stalled"
            child.last_beat = now

    def finish(self, *, raised: bool, left_early: bool) -> None:
        """Check the end of the supervisor: no child runs, and there was a reason to end."""
        assert not self._must_escalate, "it did not escalate"
        assert self.escalated == raised, "what it raised does not match its events"
        assert not any(child.running for child in self.children.values()), "a child still runs"
        assert not self.ending or self.escalated or self.stop_called or left_early, "it ended for no reason"
