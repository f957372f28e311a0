"""What the calls in a job tell their run, and are told by it."""

from __future__ import annotations

from aiosupervise._call.enclosing_job import EnclosingJob, Permit
from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import Tally
from aiosupervise._events.records import Event
from aiosupervise._policy.classify import NOT_ASKED, Classification, leaves
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.verdict import Reason

from .adaptive import AdaptiveLimit
from .breaker import Breaker


class RunContext:
    """What the jobs of one run share: its counts and events, what it does in trouble, and the job that it runs in."""

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
    """What is known of a job while it runs.

    It lies in the job's context, which timers and tasks of the job may keep alive for long: it holds no task, no
    coroutine and no input.
    """

    __slots__ = ("generation", "index", "name", "retries", "shared", "started")

    def __init__(self, index: int, name: str, started: float, shared: RunContext) -> None:
        self.index = index
        self.name = name
        self.started = started
        self.shared = shared
        self.retries = 0
        self.generation = 0 if shared.adaptive is None else shared.adaptive.generation

    @property
    def run(self) -> int:
        """The number of the run."""
        return self.shared.scope.number

    def notify(self, event: Event) -> None:
        """Pass on an event to the listener of the run, and of the runs around it."""
        self.shared.scope.notify(event)

    def on_failure(self, policy: Policy, error: Exception, classified: Classification) -> None:
        """Hear that an attempt of a call has failed: for reasons of its own, or by a fault of the service."""
        adaptive, breaker = self.shared.adaptive, self.shared.breaker
        asked = classified if isinstance(classified, float) and classified != NOT_ASKED else None
        if adaptive is not None and (
            asked is not None or any(isinstance(leaf, TimeoutError) for leaf in leaves(error))
        ):
            adaptive.overloaded(self.generation)
        if breaker is None:
            return
        if classified is None or classified is Reason.IRRECOVERABLE:
            breaker.on_neutral(self)
        elif asked is None or (policy.max_retry_after is not None and asked > policy.max_retry_after):
            breaker.on_failure(self, None)
        else:
            breaker.on_failure(self, asked)

    def pay(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Pay for a retry from the budget of the run."""
        breaker = self.shared.breaker
        return (0, delay) if breaker is None else breaker.pay(delay, throttled=throttled)

    async def acquire(self, call: object) -> Permit:
        """Wait until the run lets a call try again."""
        breaker = self.shared.breaker
        permit = Permit.GO if breaker is None else await breaker.acquire(call)
        if self.shared.adaptive is not None:
            self.generation = self.shared.adaptive.generation
        return permit

    def on_retry(self) -> None:
        """Count one retry that is about to be made, for the job, its run, and the jobs around it."""
        self.retries += 1
        self.shared.tally.retries += 1
        if self.shared.parent is not None:
            self.shared.parent.on_retry()

    def on_success(self, price: int) -> None:
        """Hear that a retry succeeded, which had cost `price`."""
        if self.shared.breaker is not None:
            self.shared.breaker.on_success(price)

    def on_neutral(self) -> None:
        """Hear that a call has ended without an answer."""
        if self.shared.breaker is not None:
            self.shared.breaker.on_neutral(self)
