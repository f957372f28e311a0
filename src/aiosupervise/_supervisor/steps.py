"""Steps: each change of the state machine runs to its end before the next one begins, whoever requests it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

Step: TypeAlias = Callable[[], None]


class Steps:
    """Runs the steps of one supervisor, and after each of them the deferred calls, such as the emission of events.

    A step runs immediately, unless another one is in progress. A step can be requested during another one, because a
    task factory may run the first lines of a child inside a step, and the child may call the supervisor. Listeners are
    called between two steps, and may request steps too.

    Args:
        on_drained: called when there is nothing left to do.
        interrupted: called when user code raises a KeyboardInterrupt or a SystemExit.
    """

    def __init__(self, on_drained: Step, interrupted: Step) -> None:
        self._on_drained = on_drained
        self._interrupted = interrupted
        self._later: deque[Step] = deque()
        self._is_busy = False
        self._is_draining = False

    def run(self, step: Step) -> None:
        """Run a step, immediately or after the one in progress."""
        if self._is_busy:
            self._later.append(partial(self._execute, step))
            return
        try:
            self._execute(step)
            if not self._is_draining:
                self._drain()
        except (KeyboardInterrupt, SystemExit):
            self._interrupted()
            raise

    def defer(self, call: Step) -> None:
        """Call a function between this step and the next one."""
        self._later.append(call)

    def close(self) -> None:
        """Drop the references to the state machine, which has ended."""
        self._on_drained = self._interrupted = _do_nothing

    def _execute(self, step: Step) -> None:
        self._is_busy = True
        try:
            step()
        finally:
            self._is_busy = False

    def _drain(self) -> None:
        self._is_draining = True
        try:
            while self._later:
                self._later.popleft()()
        finally:
            self._is_draining = False
        self._execute(self._on_drained)


def _do_nothing() -> None:
    """Do nothing, in place of a method of a state machine that has ended."""
