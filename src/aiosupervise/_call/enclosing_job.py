"""The job of a batch around a supervised call: the interface for the reports of the call and its requests for permits.

The batch sets `current_job` in the context of each job. A call that finds it there shares the retry budget and the
circuit breaker of the run with all other calls in the run.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from contextvars import ContextVar
from typing import Protocol

from aiosupervise._events.records import Event
from aiosupervise._policy.classify import Classification
from aiosupervise._policy.policy import Policy


class Permit(enum.Enum):
    """The decision whether a call may make another attempt."""

    GO = "retry"
    PROBE = "retry, to probe whether the service is available again; this does not count as one of the retries"
    STOP = "give up: the service remains unavailable"


class EnclosingJob(Protocol):
    """The job that a call runs in, as the call sees it."""

    @property
    def run(self) -> int:
        """The number of the run."""
        ...

    @property
    def index(self) -> int:
        """The position of the job in the input of the run."""
        ...

    @property
    def group(self) -> Hashable:
        """The group of the job; None in a run without groups."""
        ...

    def notify(self, event: Event) -> None:
        """Pass an event on to the listeners of the run and of the enclosing runs."""

    def on_failure(self, policy: Policy, error: Exception, classification: Classification) -> None:
        """Record that an attempt of a call failed, and how the call's policy classified the error."""

    def charge(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Take the tokens for a retry after `delay` seconds from the retry budget of the run.

        Returns:
            The number of tokens, which is passed back to `on_success`, or None if the call must give up; and the delay,
            which may be longer than the one requested.
        """
        ...

    def on_wait(self) -> None:
        """Record that a call is about to wait before it requests a permit for another attempt."""

    async def acquire(self, call: object) -> Permit:
        """Wait until a call may make another attempt, or must give up."""
        ...

    def permit_at_once(self) -> Permit:
        """Return a permit without waiting, for a call whose wait would block the event loop of the run."""
        ...

    def on_retry(self) -> None:
        """Count a retry that is about to be made."""

    def on_success(self, cost: int) -> None:
        """Record that a retry succeeded, and return the tokens that it took to the budget of the run."""

    def on_neutral(self) -> None:
        """Record that a call ended without showing whether the service works."""


current_job: ContextVar[EnclosingJob | None] = ContextVar("aiosupervise.current_job", default=None)
"""The innermost job around the running code; None outside a batch."""
