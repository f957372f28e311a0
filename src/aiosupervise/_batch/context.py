"""The contexts of a run and of a job, to which supervised calls report and from which they request permits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable

from aiosupervise._call.enclosing_job import EnclosingJob, Permit
from aiosupervise._call.tasks import running_loop
from aiosupervise._events.emit import Scope
from aiosupervise._events.outcomes import Tally
from aiosupervise._events.records import Event
from aiosupervise._policy.classify import IRRECOVERABLE, UNLISTED, Classification, Transient
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.raw import leaves

from .adaptive import AdaptiveLimit
from .breaker import Breaker

# Protects the counts of retries, because the calls of a job may retry in several threads.
_counting = threading.Lock()


class RunContext:
    """The data shared by the jobs of a run or group: counts, events, overload protection, and the enclosing job.

    The breaker is usually created at the first failure, because most runs and groups need none.
    """

    __slots__ = ("_loop", "_new_breaker", "adaptive", "breaker", "group", "parent", "scope", "tally")

    def __init__(
        self,
        tally: Tally,
        scope: Scope,
        new_breaker: Callable[[], Breaker] | None,
        adaptive: AdaptiveLimit | None,
        parent: EnclosingJob | None,
        group: Hashable = None,
    ) -> None:
        self.tally = tally
        self.scope = scope
        self.breaker: Breaker | None = None
        self._new_breaker = new_breaker
        self.adaptive = adaptive
        self.parent = parent
        self.group = group
        self._loop = asyncio.get_running_loop()

    def ensure_breaker(self) -> Breaker | None:
        """Return the breaker to which a failure is reported, created at the first failure; None without protection."""
        if self.breaker is None and self._new_breaker is not None:
            self.breaker = self._new_breaker()
        return self.breaker

    def close(self) -> None:
        """Detach the calls that outlive the run or group; their failures create no new breaker."""
        self._new_breaker = None
        if self.breaker is not None:
            self.breaker.close()

    def is_running_here(self) -> bool:
        """Return whether the caller runs in the loop of the run.

        A job may call supervised functions in another loop or thread, with `asyncio.to_thread(asyncio.run, ...)`, which
        passes on the job's context. But the futures, timers and counts of the run's protection belong to the run's own
        loop.
        """
        return running_loop() is self._loop


class JobContext:
    """A running job, as seen by the supervised calls in it.

    It is stored in the job's contextvars, which timers and tasks of the job may keep alive for a long time. A subclass
    therefore drops its references to the job's task, coroutine and input when the job ends.
    """

    index: int
    name: str
    started: float
    run_context: RunContext

    # These are class attributes, because few jobs have values of their own. The class has no slots, because Python 3.13
    # creates objects without slots faster.
    retries = 0
    # Whether an attempt of the job has failed because of the service.
    has_failed = False
    # The generation of the adaptive limit when the job began, or when its last retry was permitted.
    generation = 0

    @property
    def run(self) -> int:
        """The number of the run."""
        return self.run_context.scope.number

    @property
    def group(self) -> Hashable:
        """The group of the job; None in a run without groups."""
        return self.run_context.group

    def notify(self, event: Event) -> None:
        """Pass an event on to the listeners of the run and of the enclosing runs."""
        self.run_context.scope.notify(event)

    def on_failure(self, policy: Policy, error: Exception, classification: Classification) -> None:
        """Record an attempt of a call that failed, either because of the service or because of the call itself."""
        if not self.run_context.is_running_here():
            return
        adaptive = self.run_context.adaptive
        asked = classification.retry_after if isinstance(classification, Transient) else None
        if adaptive is not None and (
            asked is not None or any(issubclass(type(leaf), TimeoutError) for leaf in leaves(error))
        ):
            adaptive.on_overload(self.generation)
        if classification in (IRRECOVERABLE, UNLISTED):
            if self.run_context.breaker is not None:
                self.run_context.breaker.on_neutral(self)
            return
        breaker = self.run_context.ensure_breaker()
        if breaker is None:
            return
        if asked is not None and policy.max_retry_after is not None and asked > policy.max_retry_after:
            asked = None
        # A call whose policy has its own budget never pauses a run: its failures do not count as signs of an outage.
        first = not self.has_failed and policy.budget is None
        self.has_failed = self.has_failed or first
        breaker.on_failure(self, asked, first=first)

    def charge(self, delay: float, *, throttled: bool) -> tuple[int | None, float]:
        """Take the tokens for a retry from the budget of the run."""
        breaker = self._breaker()
        return (0, delay) if breaker is None else breaker.charge(delay, throttled=throttled)

    def on_wait(self) -> None:
        """Do nothing: the job keeps its slot while a call waits."""

    def has_slot(self) -> bool:
        """Return True: the job occupies a slot until it ends."""
        return True

    async def acquire(self, call: object) -> Permit:
        """Wait until the run permits a call to retry."""
        breaker = self._breaker()
        permit = Permit.GO
        if breaker is not None:
            permit = await breaker.acquire(call, self)
            if permit is Permit.PROBE:
                breaker.on_start(call)
        self._begin_generation()
        return permit

    def permit_at_once(self) -> Permit:
        """Return the permit of a call of a plain function, which cannot wait in the queue."""
        breaker = self._breaker()
        self._begin_generation()
        return Permit.GO if breaker is None else breaker.circuit.state.permit_at_once()

    def _begin_generation(self) -> None:
        if self.run_context.adaptive is not None:
            self.generation = self.run_context.adaptive.generation

    def on_retry(self) -> None:
        """Count a retry that is about to begin, for the job, its run, and the enclosing jobs."""
        with _counting:
            self.retries += 1
            self.run_context.tally.retries += 1
        if self.run_context.parent is not None:
            self.run_context.parent.on_retry()

    def on_success(self, cost: int) -> None:
        """Record a successful retry, and return its tokens to the budget."""
        breaker = self._breaker()
        if breaker is not None:
            breaker.on_success(cost)

    def on_neutral(self) -> None:
        """Record a call that ended without a response from the service."""
        breaker = self._breaker()
        if breaker is not None:
            breaker.on_neutral(self)

    def _breaker(self) -> Breaker | None:
        """Return the breaker of the run; None in another loop, where calls retry without overload protection."""
        run = self.run_context
        return run.breaker if run.breaker is not None and run.is_running_here() else None
