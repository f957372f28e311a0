"""What a supervisor must do, event by event: an independent model of the rules, which hears all that it tells."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aiosupervise import ChildExited, ChildRestarted, ChildStarted, ChildStopped, Escalated
from aiosupervise._supervisor.child_state import RestartType
from aiosupervise._supervisor.registry import RestartStrategy

Command: TypeAlias = Literal["stop", "restart"]
Told: TypeAlias = ChildStarted | ChildExited | ChildRestarted | ChildStopped | Escalated


@dataclass(frozen=True)
class Settings:
    """How a supervisor is made."""

    strategy: RestartStrategy
    max_restarts: int | None
    within: float
    delays: list[float]


@dataclass(eq=False)
class Kid:
    """A child, as the model knows it."""

    name: str
    type: RestartType
    running: bool = False
    started_at: float = 0.0
    quick: int = 0
    waits: list[list[float]] = field(default_factory=list)  # from when to when; the last may go on: to infinity
    asked: Counter[Command] = field(default_factory=Counter)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its restart."""
        return bool(self.waits) and self.waits[-1][1] == math.inf

    def age(self, since: float, now: float) -> float:
        """How old something is by now, the waits of this child left out."""
        waited = sum(max(0.0, min(end, now) - max(begin, since)) for begin, end in self.waits)
        return now - since - waited


@dataclass
class Group:
    """Children that wait to be restarted together."""

    kids: deque[Kid]
    not_before: float


class Model:
    """Follows one supervisor, and fails as soon as it does what it must not do."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kids: dict[str, Kid] = {}  # in start order
        self.types: dict[str, RestartType] = {}
        self.asked = Counter[str]()
        self.stop_called = self.escalated = self.ending = False
        self._records: list[tuple[Kid, float]] = []
        self._must_escalate = ""
        self._groups: list[Group] = []
        self._launching = deque[Kid]()
        self._group: list[Kid] = []  # whose members are being stopped, to be restarted then
        self._to_stop = deque[Kid]()
        self._delay = 0.0
        self._forgotten_unless_started = ""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is half done."""
        return not (
            self.ending or self._to_stop or self._launching or self._forgotten_unless_started or self._must_escalate
        )

    @property
    def is_over(self) -> bool:
        """Whether it must not start anything."""
        return self.ending or self.escalated

    @property
    def _is_stopping(self) -> bool:
        return bool(self._to_stop) or self.ending

    # What is heard.

    def hear(self, event: Told, now: float) -> None:
        """Follow an event."""
        name, kid = event.child, self.kids.get(event.child)
        if self._must_escalate:
            assert isinstance(event, Escalated), f"{self._must_escalate} was restarted too often: {event}"
        if not isinstance(event, ChildRestarted):
            self._skip_left(None)
            assert not self._launching, f"not the whole group was restarted: {event}"
        if self._forgotten_unless_started not in ("", name):
            del self.kids[self._forgotten_unless_started]
        self._forgotten_unless_started = ""
        match event:
            case Escalated():
                assert name == self._must_escalate, "it gave up too early"
                self._must_escalate, self.escalated = "", True
            case ChildStarted():
                self._started(name, kid, now)
            case ChildRestarted():
                self._restarted(name, kid, now)
            case ChildExited(error=error):
                self._exited(kid, error, now)
            case ChildStopped():
                self._stopped(kid, now)

    def _started(self, name: str, kid: Kid | None, now: float) -> None:
        assert not self.is_over, f"{name} was started in a supervisor that ends"
        if kid is None:  # a new one may come at any time
            kid = self.kids[name] = Kid(name, self.types[name])
        else:
            assert not self._to_stop, f"{name} was started while a group is stopped"
            assert kid.asked["restart"], f"{name} was started, and nobody had asked for it"
            self._leave(kid, now)
        self._run(kid, now)

    def _restarted(self, name: str, kid: Kid | None, now: float) -> None:
        assert not self.is_over, f"{name} was restarted in a supervisor that ends"
        assert not self._to_stop, f"{name} was restarted while a group is stopped"
        assert kid is not None, f"{name} was forgotten"
        assert kid.type != "temporary", f"{name} is temporary, and was restarted"
        if not self._launching:
            group = next(group for group in self._groups if kid in group.kids)
            assert now >= group.not_before, f"{name} was restarted before its wait was over"
            self._groups.remove(group)
            self._launching = group.kids
        self._skip_left(kid)
        assert self._launching.popleft() is kid, f"{name} was not restarted in start order"
        assert kid.is_waiting
        kid.waits[-1][1] = now
        self._run(kid, now)

    def _skip_left(self, kid: Kid | None) -> None:
        """Skip those who have left the group at this very moment, because somebody had asked for it."""
        while self._launching and self._launching[0] is not kid and self._launching[0].asked.total():
            self._launching.popleft()

    @staticmethod
    def _run(kid: Kid, now: float) -> None:
        assert not kid.running, f"{kid.name} runs twice"
        kid.running = True
        kid.started_at = now

    def _exited(self, kid: Kid | None, error: BaseException | None, now: float) -> None:
        assert kid is not None
        assert kid.running, f"{kid.name} ended twice"
        assert not self._is_stopping, f"{kid.name} ended while children are stopped"
        kid.running = False
        if kid.type == "temporary":
            del self.kids[kid.name]
        elif kid.type == "permanent" or error is not None:
            self._ask_for_restart(kid, now)

    def _stopped(self, kid: Kid | None, now: float) -> None:
        assert kid is not None
        assert kid.running, f"{kid.name} ended twice"
        kid.running = False
        if self._to_stop:
            assert kid is self._to_stop[0], f"{kid.name} was not stopped in reverse start order"
        elif self.ending or not kid.asked.total():
            self.ending = True
            later = [*self.kids][[*self.kids].index(kid.name) :]
            assert not any(self.kids[name].running for name in later), f"{kid.name} was stopped before {later}"
        if kid.type == "temporary" and (self._to_stop or not kid.asked["restart"]):
            del self.kids[kid.name]
        elif kid.type == "temporary":
            self._forgotten_unless_started = kid.name
        self._go_on_stopping(now)

    # Restarts.

    def _ask_for_restart(self, kid: Kid, now: float) -> None:
        most, within = self.settings.max_restarts, self.settings.within
        self._records.append((kid, now))
        self._records = [(one, since) for one, since in self._records if one.age(since, now) <= within]
        if most is not None and len(self._records) > most:
            self._must_escalate = kid.name
            return
        if now - kid.started_at >= within:
            kid.quick = 0
        self._delay = self.settings.delays[min(kid.quick, len(self.settings.delays) - 1)]
        kid.quick += 1
        self._group = self._together_with(kid)
        self._to_stop = deque(reversed(self._group))
        self._go_on_stopping(now)

    def _together_with(self, kid: Kid) -> list[Kid]:
        kids = [*self.kids.values()]
        match self.settings.strategy:
            case "one_for_one":
                return [kid]
            case "one_for_all":
                return kids
            case "rest_for_one":
                return kids[kids.index(kid) :]

    def _go_on_stopping(self, now: float) -> None:
        if not self._group:
            return
        while self._to_stop and not self._to_stop[0].running:
            self._leave(self._to_stop.popleft(), now)
        if not self._to_stop:
            kids = [kid for kid in self._group if self.kids.get(kid.name) is kid]
            self._groups.append(Group(deque(kids), now + self._delay))
            self._group = []
            for kid in kids:
                kid.waits.append([now, math.inf])

    def _leave(self, kid: Kid, now: float) -> None:
        """A child waits no more."""
        if kid.is_waiting:
            kid.waits[-1][1] = now
        if kid in self._launching:
            self._launching.remove(kid)
        for group in self._groups:
            if kid in group.kids:
                group.kids.remove(kid)
        self._groups = [group for group in self._groups if group.kids]

    # What is known without being heard.

    def ask(self, name: str, kid: Kid | None, command: Command) -> None:
        """Somebody asks for something; None for a child that was forgotten."""
        self.asked[name] += 1
        if kid is not None:
            kid.asked[command] += 1

    def answer(self, name: str, kid: Kid | None, command: Command, state: str, now: float) -> None:
        """It was done, or never will be; the child is in this state."""
        self.asked[name] -= 1
        if kid is not None:
            kid.asked[command] -= 1
            if kid.is_waiting and state != "waiting":
                self._leave(kid, now)

    def finish(self, *, raised: bool, left_early: bool) -> None:
        """The supervisor has ended: nothing runs, and there was a reason."""
        assert not self._must_escalate, "it did not give up"
        assert self.escalated == raised, "what it raised is not what it told"
        assert not any(kid.running for kid in self.kids.values()), "a child still runs"
        assert not self.ending or self.escalated or self.stop_called or left_early, "it ended for no reason"
