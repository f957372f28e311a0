"""An independent model of the rules of a supervisor, which checks every event that the supervisor emits."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aiosupervise import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated
from aiosupervise._supervisor.child_state import RestartType
from aiosupervise._supervisor.registry import RestartStrategy

Request: TypeAlias = Literal["stop", "restart"]
SupervisorEvent: TypeAlias = ChildStarted | ChildExited | ChildRestarted | ChildStopped | Escalated


@dataclass(frozen=True)
class Settings:
    """The arguments of a supervisor."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
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
    requests: Counter[Request] = field(default_factory=Counter)

    @property
    def is_waiting(self) -> bool:
        """Whether the child waits for its restart."""
        return bool(self.delays) and self.delays[-1][1] == math.inf

    def age(self, since: float, now: float) -> float:
        """The time from `since` to `now`, without the restart delays of this child."""
        waited = sum(max(0.0, min(end, now) - max(begin, since)) for begin, end in self.delays)
        return now - since - waited


@dataclass
class Group:
    """Children that wait to be restarted together."""

    children: deque[ModelChild]
    not_before: float


class Model:
    """Follows one supervisor, and raises an AssertionError as soon as it breaks a rule."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # In start order.
        self.children: dict[str, ModelChild] = {}
        self.types: dict[str, RestartType] = {}
        self.requests = Counter[str]()
        self.stop_called = self.escalated = self.ending = False
        self._restarts: list[tuple[ModelChild, float]] = []
        self._must_escalate = ""
        self._groups: list[Group] = []
        self._restarting = deque[ModelChild]()
        # The group whose members are being stopped before they are restarted.
        self._group: list[ModelChild] = []
        self._to_stop = deque[ModelChild]()
        self._delay = 0.0
        self._forgotten_unless_started = ""

    @property
    def is_settled(self) -> bool:
        """Whether no stop, restart or escalation is under way."""
        return not (
            self.ending or self._to_stop or self._restarting or self._forgotten_unless_started or self._must_escalate
        )

    @property
    def is_over(self) -> bool:
        """Whether the supervisor must not start a child any more."""
        return self.ending or self.escalated

    @property
    def _is_stopping(self) -> bool:
        return bool(self._to_stop) or self.ending

    # Events.

    def on_event(self, event: SupervisorEvent, now: float) -> None:
        """Check an event against the rules, and update the model."""
        name, child = event.child, self.children.get(event.child)
        if self._must_escalate:
            assert isinstance(event, Escalated), f"{self._must_escalate} exceeded the limit: {event}"
        if not isinstance(event, ChildRestarted):
            self._skip_stopped(None)
            assert not self._restarting, f"not the whole group was restarted: {event}"
        if self._forgotten_unless_started not in ("", name):
            del self.children[self._forgotten_unless_started]
        self._forgotten_unless_started = ""
        match event:
            case Escalated():
                assert name == self._must_escalate, "it escalated too early"
                self._must_escalate, self.escalated = "", True
            case ChildStarted():
                self._started(name, child, now)
            case ChildRestarted():
                self._restarted(name, child, now)
            case ChildExited(error=error):
                self._exited(child, error, now)
            case ChildStopped():
                self._stopped(child, now)

    def _started(self, name: str, child: ModelChild | None, now: float) -> None:
        assert not self.is_over, f"{name} was started in a supervisor that is stopping"
        if child is None:  # a new child can be started at any time
            child = self.children[name] = ModelChild(name, self.types[name])
        else:
            assert not self._to_stop, f"{name} was started while a group is stopped"
            assert child.requests["restart"], f"{name} was started without a request"
            self._end_delay(child, now)
        self._run(child, now)

    def _restarted(self, name: str, child: ModelChild | None, now: float) -> None:
        assert not self.is_over, f"{name} was restarted in a supervisor that is stopping"
        assert not self._to_stop, f"{name} was restarted while a group is stopped"
        assert child is not None, f"{name} was forgotten"
        assert child.type != "temporary", f"{name} is temporary, and was restarted"
        if not self._restarting:
            group = next(group for group in self._groups if child in group.children)
            assert now >= group.not_before, f"{name} was restarted before its delay was over"
            self._groups.remove(group)
            self._restarting = group.children
        self._skip_stopped(child)
        assert self._restarting.popleft() is child, f"{name} was not restarted in start order"
        assert child.is_waiting
        child.delays[-1][1] = now
        self._run(child, now)

    def _skip_stopped(self, child: ModelChild | None) -> None:
        """Skip children that left the group at this moment because they were stopped or restarted on request."""
        while self._restarting and self._restarting[0] is not child and self._restarting[0].requests.total():
            self._restarting.popleft()

    @staticmethod
    def _run(child: ModelChild, now: float) -> None:
        assert not child.running, f"{child.name} runs twice"
        child.running = True
        child.started_at = now

    def _exited(self, child: ModelChild | None, error: BaseException | None, now: float) -> None:
        assert child is not None
        assert child.running, f"{child.name} ended twice"
        assert not self._is_stopping, f"{child.name} ended while children are stopped"
        child.running = False
        if child.type == "temporary":
            del self.children[child.name]
        elif child.type == "permanent" or error is not None:
            self._add_restart(child, now)

    def _stopped(self, child: ModelChild | None, now: float) -> None:
        assert child is not None
        assert child.running, f"{child.name} ended twice"
        child.running = False
        if self._to_stop:
            assert child is self._to_stop[0], f"{child.name} was not stopped in reverse start order"
        elif self.ending or not child.requests.total():
            self.ending = True
            later = [*self.children][[*self.children].index(child.name) :]
            assert not any(self.children[name].running for name in later), f"{child.name} was stopped before {later}"
        if child.type == "temporary" and (self._to_stop or not child.requests["restart"]):
            del self.children[child.name]
        elif child.type == "temporary":
            self._forgotten_unless_started = child.name
        self._go_on_stopping(now)

    # Restarts.

    def _add_restart(self, child: ModelChild, now: float) -> None:
        most, within = self.settings.max_restarts, self.settings.within
        self._restarts.append((child, now))
        self._restarts = [(one, since) for one, since in self._restarts if one.age(since, now) <= within]
        if most is not None and len(self._restarts) > most:
            self._must_escalate = child.name
            return
        if now - child.started_at >= within:
            child.backoff_count = 0
        self._delay = self.settings.delays[min(child.backoff_count, len(self.settings.delays) - 1)]
        child.backoff_count += 1
        self._group = self._together_with(child)
        self._to_stop = deque(reversed(self._group))
        self._go_on_stopping(now)

    def _together_with(self, child: ModelChild) -> list[ModelChild]:
        children = [*self.children.values()]
        match self.settings.strategy:
            case "one_for_one":
                return [child]
            case "one_for_all":
                return children
            case "rest_for_one":
                return children[children.index(child) :]

    def _go_on_stopping(self, now: float) -> None:
        if not self._group:
            return
        while self._to_stop and not self._to_stop[0].running:
            self._end_delay(self._to_stop.popleft(), now)
        if not self._to_stop:
            children = [child for child in self._group if self.children.get(child.name) is child]
            self._groups.append(Group(deque(children), now + self._delay))
            self._group = []
            for child in children:
                child.delays.append([now, math.inf])

    def _end_delay(self, child: ModelChild, now: float) -> None:
        """End the restart delay of a child."""
        if child.is_waiting:
            child.delays[-1][1] = now
        if child in self._restarting:
            self._restarting.remove(child)
        for group in self._groups:
            if child in group.children:
                group.children.remove(child)
        self._groups = [group for group in self._groups if group.children]

    # Requests and the end, for which there are no events.

    def on_request(self, name: str, child: ModelChild | None, command: Request) -> None:
        """Note a request; the child is None if it was forgotten."""
        self.requests[name] += 1
        if child is not None:
            child.requests[command] += 1

    def on_completion(self, name: str, child: ModelChild | None, command: Request, state: str, now: float) -> None:
        """Note that a request was completed or rejected; the child is in this state."""
        self.requests[name] -= 1
        if child is not None:
            child.requests[command] -= 1
            if child.is_waiting and state != "waiting":
                self._end_delay(child, now)

    def finish(self, *, raised: bool, left_early: bool) -> None:
        """Check the end of the supervisor: no child runs, and there was a reason to end."""
        assert not self._must_escalate, "it did not escalate"
        assert self.escalated == raised, "what it raised does not match its events"
        assert not any(child.running for child in self.children.values()), "a child still runs"
        assert not self.ending or self.escalated or self.stop_called or left_early, "it ended for no reason"
