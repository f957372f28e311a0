"""The base class of the circuit states in which no job or retry starts before a given time: `Paused` and `Open`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .circuit import Circuit, CircuitState, Timer


class Pause(CircuitState, ABC):
    """A state in which no job starts before a given time, and retries wait in the queue."""

    why: ClassVar[str]

    def __init__(self, circuit: Circuit, seconds: float) -> None:
        self._circuit = circuit
        self._end = circuit.end_of_pause(seconds)
        self._timer = Timer()

    def enter(self) -> None:
        """Begin the pause."""
        self._timer.set(self._end, self._on_end)
        # The end of a pause of zero length is already in the past.
        seconds = max(self._end - self._circuit.now(), 0.0)
        self._circuit.protected.on_pause(seconds, self.why)

    def leave(self) -> None:
        """End the pause."""
        self._timer.cancel()

    def describe(self) -> str:
        """Return the remaining time, and the reason."""
        return f"paused for {max(self._end - self._circuit.now(), 0.0):.1f} s, {self.why}"

    def _on_end(self) -> None:
        if self._circuit.retry_after_end > self._end:
            self._extend()
        else:
            self._finish()

    @abstractmethod
    def _extend(self) -> None:
        """Extend the pause, because the server has asked for a longer wait since the pause began."""

    @abstractmethod
    def _finish(self) -> None:
        """Enter the next state."""
