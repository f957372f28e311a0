"""What a supervised call and the job of a batch that it runs in say to each other."""

from __future__ import annotations

import enum
from contextvars import ContextVar
from typing import Protocol

from aiosupervise._events.records import Event
from aiosupervise._policy.classify import Classification
from aiosupervise._policy.policy import Policy


class Permit(enum.Enum):
    """What a call that wants to try again is told."""

    GO = "go"
    PROBE = "go, to see whether the service is back; this counts as no retry"
    STOP = "give up: the service is not coming back"


class EnclosingJob(Protocol):
    """What a job of a batch puts into its context: what the calls in it tell their run, and are told by it."""

    @property
    def run(self) -> int:
        """The number of the run."""
        ...

    @property
    def index(self) -> int:
        """The place of the job in the run's input."""
        ...

    def notify(self, event: Event) -> None:
        """Pass on an event to the listener of the run, and of the runs around it."""

    def on_failure(self, policy: Policy, error: Exception, classification: Classification) -> None:
        """Record that an attempt of a call has failed, with the class of the error under the call's policy."""

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Pay for a retry in `delay` seconds; return the price, None if there can be no retry, and the wait."""
        ...

    async def acquire(self, call: object) -> Permit:
        """Wait until a call may try again."""
        ...

    def on_retry(self) -> None:
        """Count one retry that is about to be made."""

    def on_success(self, price: int) -> None:
        """Hear that a retry that had cost `price` succeeded."""

    def on_neutral(self) -> None:
        """Hear that a call has ended without an answer."""


current_job: ContextVar[EnclosingJob | None] = ContextVar("aiosupervise.current_job", default=None)
