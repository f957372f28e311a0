"""The contexts of a run and of a job: what the supervised calls in a job report to, and ask permits of."""

from __future__ import annotations

from aiosupervise._call.enclosing_job import EnclosingJob, Permit
from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import Tally
from aiosupervise._events.records import Event
from aiosupervise._policy.classify import IRRECOVERABLE, UNLISTED, Classification, Transient, leaves
from aiosupervise._policy.policy import Policy

from .adaptive import AdaptiveLimit
from .breaker import Breaker


class RunContext:
    """Shared by the jobs of one run: its counts and events, its overload protection, and the job around the run."""

    __slots__ = ("adaptive", "breaker", "parent", "scope", "tally")

    def __init__(
        self,
        tally: Tally,
        scope: Scope,
        breaker: Breaker | None,
        adaptive: AdaptiveLimit | None,
        parent: EnclosingJob | None,
    ) -> None:
        self.tally = tally
        self.scope = scope
        self.breaker = breaker
        self.adaptive = adaptive
        self.parent = parent


class JobContext:
    """A running job, as the supervised calls in it see it.

    It is stored in the job's contextvars, which timers and tasks of the job may keep alive for long: so it holds no
    task, no coroutine and no input.
    """

    __slots__ = ("generation", "index", "name", "retries", "run_context", "started")

    def __init__(self, index: int, name: str, started: float, run_context: RunContext) -> None:
        self.index = index
        self.name = name
        self.started = started
        self.run_context = run_context
        self.retries = 0
        self.generation = 0 if run_context.adaptive is None else run_context.adaptive.generation

    @property
    def run(self) -> int:
        """The number of the run."""
        return self.run_context.scope.number

    def notify(self, event: Event) -> None:
        """Pass on an event to the listener of the run, and of the runs around it."""
        self.run_context.scope.notify(event)

    def on_failure(self, policy: Policy, error: Exception, classification: Classification) -> None:
        """Record a failed attempt of a call: a fault of the service, or a failure that is the call's own."""
        adaptive, breaker = self.run_context.adaptive, self.run_context.breaker
        asked = classification.retry_after if isinstance(classification, Transient) else None
        if adaptive is not None and (
            asked is not None or any(isinstance(leaf, TimeoutError) for leaf in leaves(error))
        ):
            adaptive.overloaded(self.generation)
        if breaker is None:
            return
        if classification in (IRRECOVERABLE, UNLISTED):
            breaker.on_neutral(self)
        elif asked is None or (policy.max_retry_after is not None and asked > policy.max_retry_after):
            breaker.on_failure(self, None)
        else:
            breaker.on_failure(self, asked)

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Pay for a retry from the budget of the run."""
        breaker = self.run_context.breaker
        return (0, delay) if breaker is None else breaker.pay(delay, throttled=throttled)

    async def acquire(self, call: object) -> Permit:
        """Wait until the run permits a call to retry."""
        breaker = self.run_context.breaker
        permit = Permit.GO if breaker is None else await breaker.acquire(call)
        if self.run_context.adaptive is not None:
            self.generation = self.run_context.adaptive.generation
        return permit

    def on_retry(self) -> None:
        """Count one retry that is about to be made, for the job, its run, and the jobs around it."""
        self.retries += 1
        self.run_context.tally.retries += 1
        if self.run_context.parent is not None:
            self.run_context.parent.on_retry()

    def on_success(self, price: int) -> None:
        """Record a retry that succeeded, and refund its price."""
        if self.run_context.breaker is not None:
            self.run_context.breaker.on_success(price)

    def on_neutral(self) -> None:
        """Record a call that ended without an answer from the service."""
        if self.run_context.breaker is not None:
            self.run_context.breaker.on_neutral(self)
