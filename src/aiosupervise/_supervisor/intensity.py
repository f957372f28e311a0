"""The restart intensity, which is OTP's limit on restarts in a period, but per child and without restart delays."""

from __future__ import annotations

from collections import deque

from aiosupervise._policy.record import record


@record
class _Restart:
    # The time of the restart by the clock of the child.
    at: float
    error: BaseException | None


class RestartIntensity:
    """Counts the restarts that a child causes, and allows at most `max_restarts` in a period of `within` seconds.

    As in OTP (`add_restart` in supervisor.erl), the restart about to be made counts, as does one made exactly `within`
    seconds ago. Unlike in OTP, each child has its own limit: five children with the same dead dependency would exceed a
    shared limit within moments. Also unlike in OTP, the restart delays of the child do not count as part of the period;
    otherwise, if the backoff were longer than `within`, a child that always fails would never exceed the limit.
    """

    __slots__ = ("_max_restarts", "_paused_at", "_paused_for", "_restarts", "_within")

    def __init__(self, max_restarts: int | None, within: float) -> None:
        self._max_restarts = max_restarts
        self._within = within
        self._restarts: deque[_Restart] | None = None
        self._paused_for = 0.0
        self._paused_at: float | None = None

    def time(self, now: float) -> float:
        """Convert `now`, the loop's time, to the time of the child's clock, which excludes restart delays."""
        return (now if self._paused_at is None else self._paused_at) - self._paused_for

    def pause(self, now: float) -> None:
        """Pause the clock at `now`. Do nothing if it is paused."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Resume the clock at `now`. Do nothing if it is not paused."""
        if self._paused_at is not None:
            self._paused_for += now - self._paused_at
            self._paused_at = None

    def add_restart(self, now: float, error: BaseException | None) -> bool:
        """Count a restart, and return whether it is within the limit."""
        if self._max_restarts is None:
            return True
        if self._restarts is None:
            self._restarts = deque()
        time = self.time(now)
        self._restarts.append(_Restart(time, error))
        while time - self._restarts[0].at > self._within:
            self._restarts.popleft()
        return len(self._restarts) <= self._max_restarts

    def errors(self) -> list[BaseException]:
        """Return the errors that caused the restarts that still count, the latest last."""
        return [restart.error for restart in self._restarts or () if restart.error is not None]
