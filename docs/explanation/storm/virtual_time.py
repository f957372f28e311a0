"""An event loop in virtual time: whenever all tasks wait, its clock jumps to the next timer."""

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


class VirtualClock(selectors.DefaultSelector):
    """A clock that advances only while the loop waits, by the time that it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Advance the clock by `timeout`, without waiting.

        Raises:
            RuntimeError: if no timer is set, as the loop would wait for ever.

        """
        if timeout is None:
            raise RuntimeError("deadlock: all tasks wait, and no timer is set")
        if timeout > 0:
            # One step further than asked: rounding may otherwise leave the timer just short of being due.
            self.now = math.nextafter(self.now + timeout, math.inf)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time starts at 0, and in which the same program takes the same steps each time."""

    def __init__(self) -> None:
        self._clock = VirtualClock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual time."""
        return self._clock.now


def run(main: Callable[[], Coroutine[object, None, T]]) -> T:
    """Run a coroutine function from virtual time 0 to its end, as asyncio.run does in real time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
