"""An independent model of the rules of a supervisor, which checks every event that the supervisor emits."""

import math
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
    running: bool = False
    started_at: float = 0.0
    backoff_count: int = 0
    # Begin and end of each restart delay; the end of the present one is infinity.
    delays: list[list[float]] = field(default_factory=list)
    # The last command, until it is carried out.
    command: Request | None = None
    restarts: list[float] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """Whether the child waits for its restart."""
        return bool(self.delays) and self.delays[-1][1] == math.inf

    def age(self, since: float, now: float) -> float:
        """The time from `since` to `now`, without the restart delays of this child."""
        waited = sum(max(0.0, min(end, now) - max(begin, since)) for begin, end in self.delays)
        return now - since - waited


class Model:
    """Follows one supervisor, and raises an AssertionError as soon as it breaks a rule."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # In start order.
        self.children: dict[str, ModelChild] = {}
        self.types: dict[str, RestartType] = {}
        self.stop_called = self.escalated = self.ending = False
        self._must_escalate = ""
        # When a child that is restarted by itself may be.
        self._not_before: dict[ModelChild, float] = {}

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
        match event:
            case Escalated():
                assert self._is_ordered or name == self._must_escalate, "it escalated too early"
                self._must_escalate, self.escalated = "", True
            case ChildStarted():
                self._started(name, child, now)
            case ChildRestarted():
                self._restarted(name, child, now)
            case ChildExited(error=error):
                self._exited(child, error, now)
            case ChildStopped():
                self._stopped(child)
            case ChildReady():
                assert child is not None
                assert child.running
            case ChildStalled():
                assert child is not None
                assert child.running

    def _started(self, name: str, child: ModelChild | None, now: float) -> None:
        assert not self.is_over, f"{name} was started in a supervisor that is stopping"
        if child is None:  # a new child can be started at any time
            child = self.children[name] = ModelChild(name, self.types[name])
        else:
            assert self._is_ordered or child.command == "restart", f"{name} was started without a request"
        self._run(child, now)

    def _restarted(self, name: str, child: ModelChild | None, now: float) -> None:
        assert not self.is_over, f"{name} was restarted in a supervisor that is stopping"
        assert child is not None, f"{name} was forgotten"
        assert child.type != "temporary", f"{name} is temporary, and was restarted"
        # A group begins anew, grows and shrinks while it is restarted: tests/supervisor has each case by itself.
        if not self._is_ordered:
            assert now >= self._not_before.pop(child, 0.0), f"{name} was restarted before its delay was over"
        self._run(child, now)

    def _run(self, child: ModelChild, now: float) -> None:
        assert not child.running, f"{child.name} runs twice"
        self._end_delay(child, now)
        child.running = True
        child.started_at = now

    def _exited(self, child: ModelChild | None, error: BaseException | None, now: float) -> None:
        assert child is not None
        assert child.running, f"{child.name} ended twice"
        child.running = False
        if child.type == "temporary" or (
            self.settings.strategy == "simple_one_for_one" and self._is_over(child, error)
        ):
            del self.children[child.name]
        elif not self._is_over(child, error):
            if not self._is_ordered:
                self._add_restart(child, now)
            if child.command is not None:
                self.leave(child, now)

    def _is_over(self, child: ModelChild, error: BaseException | None) -> bool:
        return self.is_over or (child.type == "transient" and error is None)

    def _stopped(self, child: ModelChild | None) -> None:
        assert child is not None
        assert child.running, f"{child.name} ended twice"
        child.running = False
        if child.command is None and not self._is_ordered:
            self.ending = True
        if child.command == "restart" and not self.is_over:
            return
        if child.type == "temporary" or self.settings.strategy == "simple_one_for_one":
            del self.children[child.name]

    # Restarts.

    def _add_restart(self, child: ModelChild, now: float) -> None:
        most, within = self.settings.max_restarts, self.settings.within
        child.delays.append([now, math.inf])
        child.restarts = [since for since in [*child.restarts, now] if child.age(since, now) <= within]
        if most is not None and len(child.restarts) > most:
            self._must_escalate = child.name
            return
        if now - child.started_at >= self.settings.reset_after:
            child.backoff_count = 0
        delay = self.settings.delays[min(child.backoff_count, len(self.settings.delays) - 1)]
        child.backoff_count += 1
        self._not_before[child] = now + delay

    def _end_delay(self, child: ModelChild, now: float) -> None:
        if child.is_waiting:
            child.delays[-1][1] = now

    # Commands, for which there are no events.

    def on_request(self, child: ModelChild | None, command: Request, now: float) -> None:
        """Note a command that is about to be given; the child is None if it was forgotten."""
        if child is not None:
            child.command = command
            self.leave(child, now)
            if command == "stop" and not child.running and self.settings.strategy == "simple_one_for_one":
                self.children.pop(child.name, None)

    def on_completion(self, child: ModelChild | None) -> None:
        """Note that a command was completed or rejected."""
        if child is not None:
            child.command = None

    def leave(self, child: ModelChild, now: float) -> None:
        """Take a child out of the restart that it waits for."""
        self._not_before.pop(child, None)
        self._end_delay(child, now)

    def finish(self, *, raised: bool, left_early: bool) -> None:
        """Check the end of the supervisor: no child runs, and there was a reason to end."""
        assert not self._must_escalate, "it did not escalate"
        assert self.escalated == raised, "what it raised does not match its events"
        assert not any(child.running for child in self.children.values()), "a child still runs"
        assert not self.ending or self.escalated or self.stop_called or left_early, "it ended for no reason"
