"""A circuit breaker that waits: when the service behind a run is in trouble, the run pauses, tries one, and goes on.

Theory of operation. Every retry of the run's calls is paid from a budget. When that is empty, the circuit opens: the
pump of the run starts nothing new, and calls that want to try again are held in line. After a pause one of them is
the probe, or a new job if none waits. Its success closes the circuit: those in line go on, in order and unpaid. Its
failure opens it again for twice as long, and puts the probe at the end of the line. A server that asks to wait
pauses the run too, but needs no probe: when the time has come, the line moves on.

    RUNNING -> PAUSED -> PROBING -> RUNNING | PAUSED | STOPPED

Laws, each with a test:
- What fails for its own reasons says nothing about the service: as a probe, it makes room for the next one.
- A probe that leaves in whatever way is no longer waited for.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from aiosupervise._call.enclosing_job import Permit
from aiosupervise._call.no_waiting import no_waits
from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import Outcome, Success, Tally
from aiosupervise._events.records import RunPaused, RunResumed
from aiosupervise._policy.budget import Budget

from .overload import Overload

if TYPE_CHECKING:
    from .context import JobContext

_SPREAD = 0.25  # of a server's retry-after: the time over which those who waited for it come back
_DOUBLINGS = 60  # of a pause: after these any is longer than a lifetime, and no number overflows


_sent: ContextVar[object] = ContextVar("aiosupervise.sent", default=None)
"""The call that was sent as a probe: what is called in its attempt is part of the probe."""


class State(enum.Enum):
    """What a breaker lets through: everything, nothing, one probe, or nothing any more."""

    RUNNING = "running"
    PAUSED = "paused"
    PROBING = "probing"
    STOPPED = "stopped"


class Breaker:
    """The state of one run, its budget, and the line of calls that wait to try again."""

    def __init__(
        self,
        setting: Overload,
        tally: Tally,
        wake: Callable[[], None],
        stop: Callable[[], None],
        scope: Scope,
    ) -> None:
        self.is_clear = True  # whoever wants to go may go
        self._state = State.RUNNING
        self._setting = setting
        self._tally = tally
        self.budget = Budget() if setting.budget is None else setting.budget
        self._wake = wake  # the pump, to look at `places`
        self._stop = stop  # the run
        self._scope = scope
        self._pace = 1.0 if no_waits.get() is None else 0.0
        self._loop = asyncio.get_running_loop()
        self._line: dict[asyncio.Future[Permit], object] = {}
        self._probe: object | None = None  # a call that tries again, or the ticket of a new job
        self._timer: asyncio.TimerHandle | None = None
        self._is_open = False  # the circuit: a pause ends with a probe
        self._until: float  # when the pause ends
        self._asked_until = 0.0
        self._asked: float  # seconds, by the server
        self._paced_until: float  # when all may go again after a wait that the server asked for
        self._failures = 0  # probes in a row
        self._starts: int  # new jobs that may start while the line moves on
        self._closed = False

    def describe(self) -> str:
        """Tell the state in words; none when all is well."""
        if self._state is State.PAUSED:
            return f"paused for {max(self._until - self._loop.time(), 0.0):.1f} s, {self._why()}"
        if self._state is State.STOPPED:
            return f"stopped, {self._failures} probes failed"
        return "" if self._state is State.RUNNING else "probing"

    def _why(self) -> str:
        return "the retry budget is empty" if self._is_open else "the server asked to wait"

    # What the calls in the run say and ask.

    def on_failure(self, ticket: JobContext, asked: float | None) -> None:
        """Hear that an attempt has failed by a fault of the service, which may have asked to wait."""
        if asked is not None and self._loop.time() + asked * self._pace >= self._asked_until:
            self._asked = asked * self._pace
            self._asked_until = self._loop.time() + self._asked
        if self._is_probe(ticket):
            self._probe_failed()
        elif asked is not None and self._probe is None and self._state in (State.RUNNING, State.PROBING):
            self._pause()

    def _is_probe(self, ticket: JobContext) -> bool:
        return self._probe is not None and self._probe in (ticket, _sent.get())

    def on_neutral(self, ticket: JobContext) -> None:
        """Hear that an attempt has ended in a way that tells nothing of the service."""
        if self._is_probe(ticket):
            self._probe = None
            self._send_probe()

    def on_success(self, price: int) -> None:
        """Hear that a retry has succeeded; as the probe it was sent, for a new job that is the probe makes none."""
        self.budget.put(price)
        if self._probe is not None and self._probe is _sent.get():
            self._probe_succeeded()

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Take the price of a retry; while the circuit is open there is none, and no wait but that in the line."""
        if self._closed:
            return 0, delay
        if self._state is State.STOPPED:
            return None, delay
        if self._is_open:
            return 0, 0.0
        price = self.budget.take(throttled=throttled)
        if price is not None or self._setting.when_exhausted == "fail":
            return price, delay
        self._is_open = True
        self._pause(self._setting.first_pause)
        return 0, 0.0

    async def acquire(self, call: object) -> Permit:
        """Wait in line until a call may try again."""
        if self.is_clear:
            return Permit.GO
        if self._state is State.STOPPED:
            return Permit.STOP
        place: asyncio.Future[Permit] = self._loop.create_future()
        self._line[place] = call
        if self._state is State.PROBING and self._probe is None:
            self._send_probe()
        try:
            permit = await place
        except asyncio.CancelledError:
            self._line.pop(place, None)
            if call is self._probe:  # it had been sent, and was cancelled before it went
                self._probe = None
            if self._state is State.PROBING and self._probe is None:
                self._send_probe()
            raise
        if permit is Permit.PROBE:
            _sent.set(call)
        return permit

    # What the pump of the run says and asks.

    def free_slots(self) -> int:
        """Count the new jobs that may start now, when not everybody may go."""
        if self._state is State.PROBING:
            return int(self._probe is None and not self._line)
        return self._starts  # none in a pause

    def started(self, ticket: JobContext) -> None:
        """Hear that a new job starts though not everybody may go."""
        if self._state is State.PROBING and self._probe is None:
            self._probe = ticket
        self._starts = 0

    def ended(self, ticket: JobContext, outcome: Outcome[object, object]) -> None:
        """Hear what became of a job."""
        if isinstance(outcome, Success):
            if ticket.retries == 0:
                self.budget.put(self.budget.refill)
            if ticket is self._probe:
                self._probe_succeeded()
        else:
            self.on_neutral(ticket)

    def close(self) -> None:
        """Let go of the run, which has ended; calls that outlive it are not held any more."""
        self._closed = self.is_clear = True
        self._probe = None
        if self._state is not State.STOPPED:
            self._state = State.RUNNING
            self._dismiss(Permit.GO)
        self._stop_timer()
        del self._wake, self._stop  # which hold the run

    # Pauses and probes.

    def _pause(self, seconds: float = 0.0) -> None:
        """Pause for some of these seconds, and at least as long as the server asked."""
        if self._closed:
            return
        self._state = State.PAUSED
        self.is_clear = False
        self._starts = 0
        now = self._loop.time()
        seconds *= self._pace
        self._until = max(now + random.uniform(seconds / 2, seconds), self._asked_until)  # noqa: S311 - no secret
        self._set_timer(self._until, self._over)
        self._scope.emit(RunPaused, self._until - now, self._why())

    def _over(self) -> None:
        if self._asked_until > self._until:  # the server has asked for more meanwhile
            self._pause()
        elif self._is_open:
            self._state = State.PROBING
            self._send_probe()
        else:
            self._run_again()
            self._paced_until = self._loop.time() + self._asked * _SPREAD
            self._move_on()

    def _send_probe(self) -> None:
        """Send the first in line as the probe; if there is none, the pump may start a new job as one."""
        place = self._first()
        if self._asked_until > self._loop.time():
            self._pause()
        elif place is None:
            self._wake()
        else:
            self._probe = self._line.pop(place)
            place.set_result(Permit.PROBE)

    def _probe_failed(self) -> None:
        self._probe = None
        self._failures += 1
        if self._failures < self._setting.probes:
            longer = self._setting.first_pause * 2.0 ** min(self._failures, _DOUBLINGS)
            self._pause(min(longer, self._setting.longest_pause))
            return
        self._state = State.STOPPED
        self._dismiss(Permit.STOP)
        self._stop()

    def _probe_succeeded(self) -> None:
        self.budget.put(self.budget.capacity // 4)
        self._resume()

    def _resume(self) -> None:
        """Let everybody go, unless the server has asked to wait longer."""
        self._probe = None
        self._is_open = False
        self._failures = 0
        if self._asked_until > self._loop.time():
            self._pause()
        else:
            self._run_again()
            self.is_clear = True
            self._dismiss(Permit.GO)
            self._wake()

    def _run_again(self) -> None:
        if self._state is not State.RUNNING:
            self._scope.emit(RunResumed)
        self._state = State.RUNNING

    # The line.

    def _first(self) -> asyncio.Future[Permit] | None:
        return next((place for place in self._line if not place.done()), None)  # who was cancelled has not left yet

    def _dismiss(self, permit: Permit) -> None:
        line, self._line = self._line, {}
        for place in line:
            if not place.done():
                place.set_result(permit)

    def _move_on(self) -> None:
        """After a wait that the server asked for, let one go after the other: all at once would only be sent away."""
        now = self._loop.time()
        if now >= self._paced_until:
            self._resume()
            return
        place = self._first()
        if place is None:
            self._starts = 1
            self._wake()
        else:
            del self._line[place]
            place.set_result(Permit.GO)
        gap = self._asked * _SPREAD / max(self._tally.limit or 1, len(self._line))
        self._set_timer(now + random.uniform(0, 2 * gap), self._move_on)  # noqa: S311 - no secret

    def _set_timer(self, when: float, act: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_at(when, act)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # also a cancelled one holds its context, and that a job of ours
