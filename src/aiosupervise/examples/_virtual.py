"""A loop whose time costs none: when everybody waits, its clock jumps to whoever is to wake up first."""

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")


class Clock(selectors.DefaultSelector):
    """Virtual time: it passes when the loop waits, and only then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass that the loop would wait."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nobody will wake them")
        if timeout > 0:  # by a hair more: what is due at exactly this time might otherwise not count as due yet
            self.now = math.nextafter(self.now + timeout, math.inf)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop for simulations: its time starts at 0, and the same program takes the same steps each time."""

    def __init__(self) -> None:
        self._clock = Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual time."""
        return self._clock.now


def run(main: Callable[[], Coroutine[object, None, T]]) -> T:
    """Run a program from virtual time 0 to its end, as asyncio.run would in real time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
