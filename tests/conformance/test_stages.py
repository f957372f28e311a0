"""Stages, ended in every way and at any step: each input of the first one has exactly one outcome in the last."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import (
    Budget,
    Event,
    Failure,
    JobFinished,
    Journal,
    Outcome,
    Overload,
    Pending,
    Policy,
    Run,
    Stopped,
    Success,
    listen,
    map_all,
    supervise,
)
from aiosupervise._batch import circuit

from .laws import Witness, cancel_everywhere, play
from .loops import TICK, VirtualLoop, on_every_loop, pause
from .scenarios import Scenario, Strategy
from .staged import ANY_TIME, VIRTUAL_TIME
from .test_sweep import STRATEGIES, sweep

MANNERS = ["healthy", "healthy", "healthy", "slow", "flaky", "dead", "cancelled"]
ENDS = ["", "", "", "stop", "stop a stage", "timeout", "timeout of a stage", "failures", "leave", "first", "source"]
OVERLOAD = Overload(first_pause=2 * TICK, longest_pause=5 * TICK, probes=2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@on_every_loop(ANY_TIME, VIRTUAL_TIME)
def test_a_cancel_at_any_step(
    loop: asyncio.AbstractEventLoop, script: Scenario, strategy: Strategy, counts: "Counter[str]", *, thorough: bool
) -> None:
    """However often and whenever the caller is cancelled, every rule of a clean end holds for all stages."""
    sweep(loop, script, strategy, counts, thorough=thorough)


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each stage a budget that is soon empty."""
    monkeypatch.setattr(circuit, "Budget", partial(Budget, capacity=30))


class Service:
    """What one stage does with each input, and the laws that each call keeps."""

    def __init__(self, number: int, dice: random.Random) -> None:
        self.name = f"stage{number}"
        self.limit = dice.choice([None, 1, 2, 3])
        self.attempts: Counter[int] = Counter()
        self.seconds: dict[int, float] = {}
        self.made: set[int] = set()
        self.is_grouped = dice.random() < 0.3
        self.manner = dice.choice(MANNERS)
        self.is_well = False
        self._dice = dice
        self._number = number
        self._running = 0
        self._policy = Policy(
            retry_on=ConnectionError, max_retries=dice.choice([1, 9]), backoff=[dice.choice([0, 2]) * TICK]
        )

    def run(self, inputs: Any, **options: Any) -> Run[Any, Any]:
        """Make the run of the stage."""
        if self.is_grouped:
            options |= {"group_by": self._group_of, "limit_per_group": 2}
        return map_all(self._work(), inputs, limit=self.limit, name=self.name, overload=OVERLOAD, **options)

    def _group_of(self, value: list[int]) -> int:
        assert len(value) == self._number + 1, "group_by got something else than the function"
        return value[0] % 2

    def _work(self) -> Any:
        attempt = supervise(self._policy)(self._attempt)

        async def work(value: list[int]) -> list[int]:
            began = asyncio.get_running_loop().time()
            try:
                return await attempt(value)
            finally:
                self.seconds[value[0]] = asyncio.get_running_loop().time() - began

        return work

    async def _attempt(self, value: list[int]) -> list[int]:
        index = value[0]
        assert len(value) == self._number + 1, "an input skipped a stage, or went through one twice"
        self.attempts[index] += not self.is_well
        self._running += 1
        try:
            assert self.is_well or self.limit is None or self._running <= self.limit, "more attempts than slots"
            await pause(self._dice.choice([8, 20] if self.manner == "slow" else [0, 1, 2]))
            self._fail()
        finally:
            self._running -= 1
        self.made.add(index)
        return [*value, self._number]

    def _fail(self) -> None:
        if self.is_well:
            return
        if self.manner == "cancelled" and self._dice.random() < 0.5:
            raise asyncio.CancelledError
        if self.manner == "dead" or (self.manner == "flaky" and self._dice.random() < 0.4):
            raise ConnectionError


class Scene:
    """One random run of some stages."""

    def __init__(self, seed: int, journal: Journal | None = None) -> None:
        random.seed(seed)  # the lengths of pauses
        self.dice = dice = random.Random(seed)
        self.services = [Service(number, dice) for number in range(dice.choice([2, 2, 3]))]
        self.size = dice.randint(0, 20)
        self.strategy: Strategy = dice.choice(STRATEGIES)
        self.kind = dice.choice(["list", "generator", "async generator"])
        self.streamed = dice.random() < 0.5
        self.end = dice.choice(ENDS)
        self.after = dice.randint(0, 40)
        self.journals = [journal if dice.random() < 0.7 else None for _ in self.services]

    def _source(self, witness: Witness) -> Any:
        if self.kind == "list":
            witness.pulled += self.size
            return [[index] for index in range(self.size)]
        return self._async_items(witness) if self.kind == "async generator" else self._items(witness)

    def _items(self, witness: Witness) -> Iterator[list[int]]:
        for index in range(self.size):
            witness.pulled += 1
            yield [index]
        if self.end == "source":
            raise LookupError

    async def _async_items(self, witness: Witness) -> AsyncIterator[list[int]]:
        for item in self._items(witness):
            yield item
            await pause(self.dice.choice([0, 0, 3]))

    def runs(self, witness: Witness) -> list[Any]:
        """Make the runs."""
        options: dict[str, Any] = {"strategy": self.strategy}
        if self.end == "timeout":
            options["timeout"] = self.after * TICK
        elif self.end == "failures":
            options["max_failures"] = self.after // 10
        elif self.end == "first" and self.strategy == "wait":
            options["return_when"] = "FIRST_EXCEPTION"
        *earlier, last = self.services
        inputs, runs = self._source(witness), []
        for service, journal in zip(earlier, self.journals, strict=False):
            timeout = self.after * TICK if self.end == "timeout of a stage" else None
            inputs = service.run(inputs, journal=journal, timeout=timeout)
            runs.append(inputs)
        runs.append(last.run(inputs, journal=self.journals[-1], **options))
        witness.of(runs[-1], *runs[:-1])
        if self.end.startswith("stop"):
            run = runs[-1] if self.end == "stop" else self.dice.choice(runs)
            asyncio.get_running_loop().call_later(self.after * TICK, self._stop, run)
        return runs

    @staticmethod
    def _stop(run: Run[Any, Any]) -> None:
        with suppress(RuntimeError):
            run.stop()

    async def play(self, witness: Witness) -> None:
        """Play it to its end."""
        run = self.runs(witness)[-1]
        try:
            if not self.streamed:
                await run
            else:
                await self._read(run, witness)
        except LookupError:
            assert self.end == "source"
        await self._check(run, witness)

    async def _read(self, run: Run[Any, Any], witness: Witness) -> None:
        async with run:
            async for outcome in run:
                witness.read.append(outcome)
                await pause(self.dice.choice([0, 0, 1]))
                if self.end == "leave" and len(witness.read) > self.after // 4:
                    break

    async def _check(self, run: Run[Any, Any], witness: Witness) -> None:
        outcomes: list[Any] = [*witness.read, *run.report]
        for outcome in outcomes:
            assert outcome.input == [outcome.index]
            await self._check_outcome(outcome)
        if self.strategy == "gather":
            assert [outcome.index for outcome in outcomes] == sorted(outcome.index for outcome in outcomes)
        assert run.report.stopped or self.kind == "list" or self.end == "source" or len(outcomes) == self.size
        by_itself = run.report.stopped in (Stopped.PROBES, None) and not run.report.stopped_groups
        if by_itself and not run.report.stopped and self.end != "source":
            assert not any(isinstance(outcome, Pending) for outcome in outcomes)
        if self.end in ("", "stop", "failures") and run.report.stopped is not Stopped.PROBES:
            self._check_graceful(outcomes)

    def _check_graceful(self, outcomes: list[Any]) -> None:
        """Every job that the first stage has started has passed through all stages."""
        if not any(service.is_grouped or service.manner == "dead" for service in self.services):
            pending = [outcome for outcome in outcomes if isinstance(outcome, Pending)]
            assert not [outcome for outcome in pending if outcome.started or not outcome.name.startswith("stage0")]

    async def _check_outcome(self, outcome: Outcome[Any, Any]) -> None:
        maker = next(service for service in self.services if outcome.name == f"{service.name}-{outcome.index}")
        passed = self.services[: self.services.index(maker) + 1]
        if isinstance(outcome, Pending):
            for service in self.services:
                service.is_well = True
            assert outcome.job is not None
            assert await outcome.job() == [outcome.index, *range(len(self.services))], "its job does not what is left"
            for service in self.services:
                service.is_well = False
            return
        attempts = sum(service.attempts[outcome.index] for service in passed)
        assert outcome.attempts == attempts - len(passed) + 1
        seconds = sum(service.seconds[outcome.index] for service in passed)
        assert outcome.elapsed == pytest.approx(seconds)
        if isinstance(outcome, Success):
            assert maker is self.services[-1]
            assert outcome.value == [outcome.index, *range(len(self.services))]
        else:
            assert isinstance(outcome, Failure)
            assert outcome.index not in maker.made


def test_pending_outcomes_that_a_reader_receives_last_hold_up_no_job() -> None:
    """Seed 314 has a streamed stage with groups whose pending outcomes would occupy all slots."""
    loop = VirtualLoop()
    try:
        play(loop, Scene(314).play)
    finally:
        loop.close()


@pytest.mark.parametrize("block", range(4))
def test_random_stages(block: int, counts: "Counter[str]", *, thorough: bool) -> None:
    """Random services behind random stages: nothing hangs, nothing is lost, and no limit is passed."""
    size = 3000 if thorough else 60
    for seed in range(block * size, (block + 1) * size):
        loop = VirtualLoop()
        try:
            play(loop, Scene(seed).play, listened=seed % 2 == 0)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            loop.close()
        counts["random: runs of stages"] += 1


@pytest.mark.parametrize("seed", range(12))
def test_a_cancel_at_any_step_of_random_stages(seed: int, counts: "Counter[str]", *, thorough: bool) -> None:
    """Whatever the stages are doing then, the rules of a clean end hold."""
    cancel_everywhere(lambda witness: Scene(seed).play(witness), counts, thorough=thorough)


@pytest.mark.parametrize("seed", range(24))
def test_random_stages_with_journals(tmp_path: Path, seed: int) -> None:
    """Each delivered success of a stage is replayed by its next run, whatever the others did, even after a cancel."""
    journal = Journal(tmp_path / "run.db", key=str)
    known: list[set[int]] = [set() for _ in range(3)]
    for round_ in range(3):
        scene = Scene(seed, journal)
        scene.end = "" if round_ or scene.end == "source" else scene.end

        async def caller(scene: Scene = scene, cancel_after: int | None = None) -> tuple[list[Any], list[Event]]:
            events: list[Event] = []
            witness = Witness.__new__(Witness)
            witness.pulled, witness.read, witness._runs, witness._stages = 0, [], [], []
            run = scene.runs(witness)[-1]
            with listen(events.append):
                task = asyncio.ensure_future(run)
                for _ in range(0 if cancel_after is None else cancel_after):
                    await asyncio.sleep(0)
                if cancel_after is not None:
                    task.cancel()
                await asyncio.wait([task])
            if cancel_after is None:
                task.result()
            indexes = sorted(outcome.index for outcome in run.report)
            assert indexes == list(range(witness.pulled)), "not every input has exactly one outcome"
            return [*run.report], events

        cancel_after = seed * 7 + 1 if seed % 2 and not round_ else None
        outcomes, events = asyncio.run(caller(cancel_after=cancel_after))
        for number, service in enumerate(scene.services):
            if scene.journals[number] is not None:
                assert not service.made & known[number], "a stage called a known input again"
                known[number] |= {
                    event.outcome.index
                    for event in events
                    if isinstance(event, JobFinished) and event.name == service.name
                    if isinstance(event.outcome, Success)
                }
        for outcome in outcomes:
            if isinstance(outcome, Success) and outcome.replayed:
                assert outcome.value == [outcome.index, *range(len(scene.services))]
