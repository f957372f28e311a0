"""How often is too often: OTP's rule for restarts, on a clock that leaves out the waits between them. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Clock:
    """The time of one child, which stands still while the child waits to be restarted."""

    __slots__ = ("_behind", "_stands_since")

    def __init__(self) -> None:
        self._behind = 0.0
        self._stands_since: float | None = None

    def read(self, now: float) -> float:
        """Return the child's time, when that of the loop is `now`."""
        return (now if self._stands_since is None else self._stands_since) - self._behind

    def stand(self, now: float) -> None:
        """Stand still from now on."""
        if self._stands_since is None:
            self._stands_since = now

    def go_on(self, now: float) -> None:
        """Go on from where it stood."""
        if self._stands_since is not None:
            self._behind += now - self._stands_since
            self._stands_since = None


class _Restart(NamedTuple):
    at: float  # by the child's clock
    error: BaseException | None


class Intensity:
    """Counts restarts: more than `most` in `within` seconds are too many.

    As in OTP (`add_restart` in supervisor.erl) the restart that is asked for counts, and so does one that is exactly
    `within` seconds old. Beyond OTP, a restart does not age while its child waits to be restarted: else a backoff
    longer than `within` would keep a dead child from ever being too much.
    """

    def __init__(self, most: int | None, within: float) -> None:
        self._most = most
        self._within = within
        self._restarts: dict[Clock, deque[_Restart]] = {}

    def allows(self, clock: Clock, now: float, error: BaseException | None) -> bool:
        """Count a restart of the child that has this clock; tell whether it may be made."""
        if self._most is None:
            return True
        self._restarts.setdefault(clock, deque()).append(_Restart(clock.read(now), error))
        self._forget_old(now)
        return sum(map(len, self._restarts.values())) <= self._most

    def errors(self, clock: Clock) -> list[BaseException]:
        """Return the errors of one child that still count, the last one last."""
        return [one.error for one in self._restarts.get(clock, ()) if one.error is not None]

    def _forget_old(self, now: float) -> None:
        for clock, restarts in tuple(self._restarts.items()):
            while restarts and clock.read(now) - restarts[0].at > self._within:
                restarts.popleft()
            if not restarts:
                del self._restarts[clock]
