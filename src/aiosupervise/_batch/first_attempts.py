"""A window over the first attempts of jobs, which distinguishes a failing service from a few failing inputs."""

from __future__ import annotations

from collections import deque

WINDOW = 50
"""The number of jobs in the window. Opening the circuit when half of them have failed corresponds to K = 2 in Google's
SRE book (https://sre.google/sre-book/handling-overload/)."""

LATEST = 10
"""The number of consecutive failed jobs that indicate an outage when no new job is left to serve as a probe."""


class FirstAttempts:
    """Records, for the most recent jobs, whether their first attempts failed because of the service.

    Retries are not recorded: an input that always fails is retried repeatedly, and would be counted many times.

    Attributes:
        are_clean: True if the window is full and has no failures, so recording another success would change nothing.
    """

    __slots__ = ("_failed", "_failures", "_successes", "are_clean")

    def __init__(self, successes: int = 0) -> None:
        """Create the window.

        Args:
            successes: the number of jobs that succeeded before any job failed because of the service.
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
        """Return whether at least half of the first attempts failed."""
        return 2 * sum(self._failed) >= len(self._failed)

    def show_outage_now(self) -> bool:
        """Return whether at least half of the first attempts failed and, in a full window, all of the latest ones."""
        return self.show_outage() and (len(self._failed) < WINDOW or self._failures >= LATEST)

    def rule_out_outage(self) -> bool:
        """Return whether the window is full, so that the result is significant, and most first attempts succeeded."""
        return len(self._failed) == WINDOW and not self.show_outage()
