"""The restart intensity: OTP's limit on restarts in a period, on clocks that leave out restart delays. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Clock:
    """The clock of one child: the loop's time without the time during which it was paused."""

    __slots__ = ("_paused_at", "_paused_for")

    def __init__(self) -> None:
        self._paused_for = 0.0
        self._paused_at: float | None = None

    def time(self, now: float) -> float:
        """Return the time of this clock at `now`, a time of the loop."""
        return (now if self._paused_at is None else self._paused_at) - self._paused_for

    def pause(self, now: float) -> None:
        """Pause at `now`. A clock that is paused stays so."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Resume at `now`. A clock that is not paused goes on."""
        if self._paused_at is not None:
            self._paused_for += now - self._paused_at
            self._paused_at = None


class _Restart(NamedTuple):
    at: float  # by the child's clock
    error: BaseException | None


class RestartIntensity:
    """Counts the restarts of all children and allows at most `max_restarts` in a period of `within` seconds.

    As in OTP (`add_restart` in supervisor.erl) the restart that is about to be made counts, and so does one that is
    exactly `within` seconds old. Beyond OTP, a restart does not age during the restart delays of its child; otherwise
    a child that fails each time would never exceed the limit under a backoff longer than `within`.
    """

    def __init__(self, max_restarts: int | None, within: float) -> None:
        self._max_restarts = max_restarts
        self._within = within
        self._restarts: dict[Clock, deque[_Restart]] = {}

    def add_restart(self, clock: Clock, now: float, error: BaseException | None) -> bool:
        """Count a restart of the child that has this clock, and return whether it is within the limit."""
        if self._max_restarts is None:
            return True
        self._restarts.setdefault(clock, deque()).append(_Restart(clock.time(now), error))
        self._drop_expired(now)
        return sum(map(len, self._restarts.values())) <= self._max_restarts

    def errors(self, clock: Clock) -> list[BaseException]:
        """Return the errors of one child that led to the restarts that still count, the latest last."""
        return [restart.error for restart in self._restarts.get(clock, ()) if restart.error is not None]

    def _drop_expired(self, now: float) -> None:
        for clock, restarts in tuple(self._restarts.items()):
            while restarts and clock.time(now) - restarts[0].at > self._within:
                restarts.popleft()
            if not restarts:
                del self._restarts[clock]
