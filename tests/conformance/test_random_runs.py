"""Random runs: hypothesis writes the jobs, feeds them, reads, stops and cancels, and a model knows what must come."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, ClassVar, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aiosupervise import Failure, Outcome, Pending, run_all

from .laws import Make, Witness
from .loops import TICK, Steps, VirtualLoop
from .scripts import SCRIPTS, Actor, Script

MOMENT = 0.001
"""Ticks in which everything happens that needs no time."""


class Feed:
    """A source that gives its jobs when the test has them, and ends or fails when the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[Make] = deque()
        self.ended = False
        self._error: Callable[[], Exception] | None = None
        self._change: asyncio.Future[None] | None = None

    def put(self, make: Make) -> None:
        """Have one more job."""
        self.waiting.append(make)
        self._wake()

    def end(self, error: Callable[[], Exception] | None = None) -> None:
        """Have no more, or fail."""
        self.ended = True
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def makes(self) -> AsyncGenerator[Make, None]:
        """What the source gives."""
        while self.waiting or not self.ended:
            while self.waiting:
                yield self.waiting.popleft()
            if not self.ended:
                self._change = asyncio.get_running_loop().create_future()
                await self._change
        if self._error is not None:
            raise self._error()


class RandomRun(RuleBasedStateMachine):
    """One run: how it is made, what happens to it, and what holds meanwhile and afterwards."""

    visits: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.actors: list[Actor] = []
        self.feed = Feed()
        self.steps = Steps()
        self.permits: float = 0
        self.leaving = self.stopped = self.stopped_first = self.source_failed = self.source_error_came = False
        self.may_read: asyncio.Future[None] | None = None

    # How it is made.

    @initialize(
        options=st.fixed_dictionaries(
            {
                "strategy": st.sampled_from(["gather", "as_completed", "wait"]),
                "limit": st.none() | st.integers(1, 4),
                "timeout": st.none() | st.integers(0, 30).map(lambda ticks: (ticks + 0.7) * TICK),
            }
        ),
        return_when=st.sampled_from(["ALL_COMPLETED", "ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]),
        source=st.sampled_from(["list", "list", "generator", "feed", "feed"]),
        scripts=st.lists(SCRIPTS, max_size=8),
        streamed=st.booleans(),
    )
    def start(
        self,
        options: dict[str, Any],
        return_when: str,
        source: Literal["list", "generator", "feed"],
        scripts: list[Script],
        *,
        streamed: bool,
    ) -> None:
        """Start a run, from a source and for a reader of some kind."""
        if options["strategy"] == "wait":
            options["return_when"] = return_when
        self.options = options
        self.source = source
        self.streamed = streamed
        self.caller = self.loop.create_task(self._run(scripts))
        self.steps.task = self.caller
        self._pass(0)

    async def _run(self, scripts: list[Script]) -> None:
        self.witness = Witness(self.steps)
        makes = [self._actor(script).play for script in scripts]
        if self.source == "list":
            self.run = run_all(self.witness.listed(makes), **self.options)
        elif self.source == "generator":
            self.run = run_all(self.witness.jobs(makes), **self.options)
        else:
            self.feed.waiting.extend(makes)
            self.run = run_all(self.witness.fed(self.feed.makes()), **self.options)
        self.witness.of(self.run)
        try:
            await (self._read() if self.streamed else self.run)
        except LookupError:
            self.source_error_came = True
        finally:
            self.witness.check()

    async def _read(self) -> None:
        async with self.run:
            async for outcome in self.run:
                self.witness.read.append(outcome)
                while self.permits < 1 and not self.leaving:
                    self.may_read = asyncio.get_running_loop().create_future()
                    await self.may_read
                if self.leaving:
                    break
                self.permits -= 1

    def _actor(self, script: Script) -> Actor:
        index = len(self.actors)
        actor = Actor(script, self._visit, lambda: self.actors[index + 1] if index + 1 < len(self.actors) else None)
        self.actors.append(actor)
        return actor

    def _visit(self, what: str) -> None:
        self.visits[what] += 1

    # What happens to it.

    def _goes_on(self) -> bool:
        return not self.caller.done()

    def _is_fed(self) -> bool:
        return self._goes_on() and self.source == "feed" and not self.feed.ended

    def _is_read(self) -> bool:
        return self._goes_on() and self.streamed

    def _pass(self, ticks: float) -> None:
        self.loop.call_later((ticks + MOMENT) * TICK, self.loop.stop)
        self.loop.run_forever()

    @rule(ticks=st.integers(1, 10))
    def time_passes(self, ticks: int) -> None:
        """Let some time pass."""
        self._pass(ticks)

    @precondition(_is_fed)
    @rule(script=SCRIPTS)
    def another_job_comes(self, script: Script) -> None:
        """The source has one more job."""
        self.feed.put(self._actor(script).play)
        self._pass(0)

    @precondition(_is_fed)
    @rule(fail=st.booleans())
    def the_source_ends(self, *, fail: bool) -> None:
        """The source has no more jobs, or fails."""
        self.feed.end(self._source_error if fail else None)
        self._pass(0)

    def _source_error(self) -> Exception:
        self.source_failed = True
        return LookupError("no more pages")

    @precondition(_is_read)
    @rule(how_many=st.sampled_from([1, 2, math.inf]))
    def the_reader_reads(self, how_many: float) -> None:
        """The reader takes some outcomes, or from now on each as it comes."""
        self.permits += how_many
        self._let_read()

    @precondition(_is_read)
    @rule()
    def the_reader_leaves(self) -> None:
        """The reader leaves before the end."""
        self.leaving = True
        self._let_read()

    def _let_read(self) -> None:
        if self.may_read is not None and not self.may_read.done():
            self.may_read.set_result(None)
        self._pass(0)

    @precondition(_goes_on)
    @rule()
    def somebody_stops_it(self) -> None:
        """Somebody stops the run; it may be stopped already."""
        self.stopped_first |= not self._is_early_end()
        self.stopped = True
        self.loop.call_soon(self.run.stop)
        self._pass(0)

    @precondition(_goes_on)
    @rule(index=st.integers(0, 10))
    def somebody_cancels_a_job(self, index: int) -> None:
        """Somebody else cancels one of the jobs."""
        if self.actors:
            self.loop.call_soon(self.actors[index % len(self.actors)].cancel)
        self._pass(0)

    @precondition(_goes_on)
    @rule()
    def the_caller_is_cancelled(self) -> None:
        """The caller is cancelled, maybe not for the first time."""
        self.steps.cancel()
        self._pass(0)

    # What holds meanwhile.

    @invariant()
    def the_limit_is_kept(self) -> None:
        """There are never more running jobs than slots, nor more unread outcomes."""
        limit = self.options["limit"] if self._has_begun() else None
        if limit is not None:
            assert self.run.tally.running <= limit
            if self.streamed and self.source != "list":  # which counts as pulled what it holds
                assert self.witness.pulled - len(self.witness.read) <= limit

    @invariant()
    def no_slot_is_left_free(self) -> None:
        """A job waits only while all slots are taken."""
        if self._has_begun() and self._is_fed() and self.feed.waiting and not self._is_early_end():
            limit = self.options["limit"]
            taken = self.witness.pulled - len(self.witness.read) if self.streamed else self.run.tally.running
            assert taken == limit

    def _has_begun(self) -> bool:
        return hasattr(self, "run")

    def _is_early_end(self) -> bool:
        return self._is_cut() or self.stopped

    def _is_cut(self) -> bool:
        timeout = self.options["timeout"]
        timed_out = timeout is not None and self.run.report.elapsed >= timeout
        chosen = self.options.get("return_when", "ALL_COMPLETED") != "ALL_COMPLETED"
        return timed_out or chosen or self.leaving or self.steps.cancels > 0

    # What holds afterwards.

    def teardown(self) -> None:
        """Let the run end, if it has not, and judge the result."""
        try:
            if hasattr(self, "caller"):
                self._finish()
                self._check()
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _let_end(self) -> None:
        if not self.feed.ended:
            self.feed.end()
        self.permits = math.inf
        self._let_read()

    def _finish(self) -> None:
        self._let_end()
        if not self.caller.done():
            self.loop.follow(self.caller, self.steps)
        if not self.caller.cancelled():
            self.caller.result()
            assert self.source_error_came == self.source_failed
        assert self.caller.cancelled() == (self.steps.cancels > 0), "a cancel was swallowed, or made up"
        assert not asyncio.all_tasks(self.loop)
        assert self.complaints == []

    def _check(self) -> None:
        outcomes = [*self.witness.read, *self.run.report]
        for outcome in outcomes:
            actor = self.actors[outcome.index]
            assert actor.accepts(outcome, cut=self._is_cut(), stopped=self.stopped), (actor.script, outcome)
            self._note(outcome)
        self.visits["runs"] += 1
        self.visits["jobs"] += len(outcomes)
        self.visits["source failed"] += self.source_failed

    def _note(self, outcome: Outcome[object]) -> None:
        if isinstance(outcome, Failure) and outcome.reason is not None:
            self.visits[f"gave up: {outcome.reason.value}"] += 1
        elif isinstance(outcome, Pending) and self.stopped_first and not outcome.started:
            self.visits["pending by stop"] += 1
        elif isinstance(outcome, Pending) and not (self.stopped or self.leaving or self.steps.cancels):
            self.visits["pending by timeout" if self.options["timeout"] else "pending by return_when"] += 1


SOMETIMES = (
    "gave up: retries exhausted",
    "gave up: irrecoverable",
    "gave up: deadline",
    "cancelled in an attempt",
    "cancelled in a wait",
    "pending by timeout",
    "pending by stop",
    "source failed",
)


def test_random_runs(counts: "Counter[str]", *, thorough: bool) -> None:
    """Whatever happens to a run, every law holds, and every way to end was really tried."""

    class CountedRun(RandomRun):
        visits: ClassVar = Counter[str]()

    run_state_machine_as_test(
        CountedRun, settings=settings(stateful_step_count=20, max_examples=10_000 if thorough else 200)
    )
    for what, count in CountedRun.visits.items():
        counts[f"random: {what}"] += count
    assert [what for what in SOMETIMES if not CountedRun.visits[what]] == []


def test_random_runs_cancelled_on_every_turn(counts: "Counter[str]", *, thorough: bool) -> None:
    """The same for a run that has come to a random state and is then cancelled at every step until it ends."""

    class PressedRun(RandomRun):
        visits: ClassVar = Counter[str]()

        def _let_end(self) -> None:
            self.visits["pressed"] += not self.caller.done()
            self.steps.cancel_from_now_on()

    # Four runs in ten have ended before they are cancelled.
    run_state_machine_as_test(
        PressedRun, settings=settings(stateful_step_count=10, max_examples=20_000 if thorough else 60)
    )
    counts["random: runs cancelled on every turn"] += PressedRun.visits["pressed"]
    assert PressedRun.visits["pressed"]
