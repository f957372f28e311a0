"""A window over the jobs' first attempts, to show whether the service behind a run is failing, or only some inputs."""

from __future__ import annotations

from collections import deque

WINDOW = 50
"""The number of jobs in the window. Giving up when half of them fail corresponds to K = 2 in Google's SRE book
(https://sre.google/sre-book/handling-overload/)."""

LATEST = 10
"""The number of jobs that must have failed in a row when no new job is left as a probe."""


class FirstAttempts:
    """The jobs whose first attempt ended most recently, and whether it failed because of the service.

    Retries do not count: an input that always fails is retried again and again, and would count many times.

    Attributes:
        are_clean: True if none failed and the window is full, so that recording another success would change nothing.
    """

    __slots__ = ("_failed", "_failures", "_successes", "are_clean")

    def __init__(self, successes: int = 0) -> None:
        """Create the window.

        Args:
            successes: the number of jobs that have succeeded before, while none has failed.
        """
        self.are_clean = successes >= WINDOW
        self._failed = deque([False] * min(successes, WINDOW), WINDOW)
        # Both count consecutive jobs, up to the latest one.
        self._failures = 0
        self._successes = successes

    def record(self, *, failed: bool) -> None:
        """Record the first attempt of another job."""
        self._failed.append(failed)
        self._failures = self._failures + 1 if failed else 0
        self._successes = 0 if failed else self._successes + 1
        self.are_clean = self._successes >= WINDOW

    def show_outage(self) -> bool:
        """Return whether at least half of them failed."""
        return 2 * sum(self._failed) >= len(self._failed)

    def show_outage_now(self) -> bool:
        """Return whether at least half of them failed and, if the window is full, all of the latest ones."""
        return self.show_outage() and (len(self._failed) < WINDOW or self._failures >= LATEST)

    def rule_out_outage(self) -> bool:
        """Return whether most of them succeeded, and there are enough of them for the result to be significant."""
        return len(self._failed) == WINDOW and not self.show_outage()
