"""Random runs with groups, ended in every way and at any step: each input has one outcome, and every limit is kept."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import Budget, Journal, Overload, Pending, Policy, Run, Success, listen, map_all, supervise
from aiosupervise._batch import circuit
from aiosupervise._batch._groups import registry
from aiosupervise._events.records import Event, GroupPaused, GroupResumed, GroupStopped

from .laws import Witness, cancel_everywhere, play
from .loops import TICK, VirtualLoop, pause
from .scenarios import Strategy

STRATEGIES: list[Strategy] = ["gather", "as_completed", "wait"]
MANNERS = ["healthy", "healthy", "slow", "flaky", "dead", "busy", "cancelled"]
OVERLOAD = Overload(first_pause=2 * TICK, longest_pause=5 * TICK, probes=2)


class AskedToWaitError(ConnectionError):
    """The service asks to wait."""

    retry_after = 4 * TICK


@pytest.fixture(autouse=True)
def few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget all idle groups that have failed but one."""
    monkeypatch.setattr(registry, "_REMEMBERED", 1)


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each group a budget that is soon empty."""
    monkeypatch.setattr(circuit, "Budget", partial(Budget, capacity=30))


class Services:
    """The services behind the groups of one run, and the laws that each call of them keeps."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.count = dice.randint(1, 5)
        self.manners = [dice.choice(MANNERS) for _ in range(self.count)]
        self.limit = dice.choice([None, 1, 2, 3])
        self.limit_per_group: Any = dice.choice([None, 1, 2, lambda group: None if group % 2 else 1])
        self.running: Counter[int] = Counter()
        self.first: dict[int, list[int]] = {}
        self._policy = Policy(
            retry_on=ConnectionError,
            max_retries=dice.choice([1, 9]),
            backoff=[dice.choice([0, 2]) * TICK],
            attempt_timeout=dice.choice([None, 10.5 * TICK]),
            deadline=dice.choice([None, None, 12.7 * TICK]),
        )

    def group_by(self, item: int) -> int:
        """The group of an input."""
        return item % self.count

    def limit_of(self, group: int) -> int | None:
        """The limit of a group."""
        limit: int | None = self.limit_per_group(group) if callable(self.limit_per_group) else self.limit_per_group
        return limit

    def fetch(self) -> Any:
        """The function of the run."""
        return supervise(self._policy)(self._attempt)

    async def _attempt(self, item: int) -> int:
        """Keep the laws, and behave as the service of the group."""
        group = self.group_by(item)
        seen = self.first.setdefault(group, [])
        if item not in seen:
            assert not seen or seen[-1] < item, "inputs of a group started in another order"
            seen.append(item)
        self.running[group] += 1
        try:
            assert self.limit is None or self.running.total() <= self.limit, "more attempts than slots"
            limit = self.limit_of(group)
            assert limit is None or self.running[group] <= limit, "more attempts of a group than its slots"
            await self._behave(self.manners[group])
        finally:
            self.running[group] -= 1
        return item

    async def _behave(self, manner: str) -> None:
        await pause(self.dice.choice([8, 20]) if manner == "slow" else self.dice.choice([0, 1, 2]))
        if manner == "cancelled" and self.dice.random() < 0.5:
            raise asyncio.CancelledError
        if manner == "dead" or (manner == "flaky" and self.dice.random() < 0.4):
            raise ConnectionError
        if manner == "busy" and self.dice.random() < 0.3:
            raise AskedToWaitError


class Scene:
    """One random run."""

    def __init__(self, seed: int, journal: Path | None = None) -> None:
        random.seed(seed)  # the lengths of pauses
        self.dice = random.Random(seed)
        self.services = Services(self.dice)
        self.size = self.dice.randint(0, 30)
        self.strategy: Strategy = self.dice.choice(STRATEGIES)
        self.kind = self.dice.choice(["list", "generator", "async generator"])
        self.streamed = self.dice.random() < 0.5
        self.end = self.dice.choice(["", "", "", "stop", "timeout", "leave", "first"])
        self.after = self.dice.randint(0, 60)
        self.journal = journal
        self.events: list[Event] = []

    def _source(self, witness: Witness) -> Any:
        if self.kind == "list":
            witness.pulled += self.size
            return list(range(self.size))
        return self._async_items(witness) if self.kind == "async generator" else self._items(witness)

    def _items(self, witness: Witness) -> Iterator[int]:
        for item in range(self.size):
            witness.pulled += 1
            yield item

    async def _async_items(self, witness: Witness) -> AsyncIterator[int]:
        for item in range(self.size):
            await pause(self.dice.choice([0, 0, 3]))
            witness.pulled += 1
            yield item

    def run(self, witness: Witness) -> Any:
        """Make the run."""
        services = self.services
        options: dict[str, Any] = {"timeout": self.after * TICK} if self.end == "timeout" else {}
        if self.end == "first" and self.strategy == "wait":
            options["return_when"] = "FIRST_EXCEPTION"
        run = map_all(
            services.fetch(),
            self._source(witness),
            strategy=self.strategy,
            limit=services.limit,
            group_by=services.group_by,
            limit_per_group=services.limit_per_group,
            overload=OVERLOAD,
            name="fetch",
            journal=self.journal,
            listen=self.events.append,
            **options,
        )
        witness.of(run)
        if self.end == "stop":
            asyncio.get_running_loop().call_later(self.after * TICK, self._stop, run)
        return run

    @staticmethod
    def _stop(run: Run[int, int]) -> None:
        with suppress(RuntimeError):
            run.stop()

    async def play(self, witness: Witness) -> None:
        """Play it to its end."""
        run = self.run(witness)
        if not self.streamed:
            await run
        else:
            async with run:
                async for outcome in run:
                    witness.read.append(outcome)
                    await pause(self.dice.choice([0, 0, 1]))
                    if self.end == "leave" and len(witness.read) > self.after // 4:
                        break
        self._check(run, witness)

    def _check(self, run: Any, witness: Witness) -> None:
        outcomes = [*witness.read, *run.report]
        assert run.tally.paused_groups == 0
        names = [event.group for event in self.events if isinstance(event, GroupStopped)]
        assert run.report.stopped_groups == tuple(dict.fromkeys(names))
        for outcome in outcomes:
            assert isinstance(outcome, (Success, Pending)) or outcome.input is not None
            if isinstance(outcome, Pending) and not run.report.stopped:
                assert outcome.input is not None
                assert self.services.group_by(outcome.input) in names, "an input of a group that goes on is pending"
        if self.strategy == "gather":
            indexes = [outcome.index for outcome in outcomes]
            assert indexes == sorted(indexes)


@pytest.mark.parametrize("block", range(4))
def test_random_runs_with_groups(block: int, counts: "Counter[str]", *, thorough: bool) -> None:
    """Random services behind random groups: nothing hangs, nothing is lost, and no limit is passed."""
    size = 3000 if thorough else 60
    for seed in range(block * size, (block + 1) * size):
        scene = Scene(seed)
        loop = VirtualLoop()
        try:
            play(loop, scene.play, listened=seed % 2 == 0)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            loop.close()
        counts["random: runs with groups"] += 1
        counts["random: groups paused"] += sum(isinstance(event, GroupPaused) for event in scene.events)
        counts["random: groups resumed"] += sum(isinstance(event, GroupResumed) for event in scene.events)
        counts["random: groups stopped"] += sum(isinstance(event, GroupStopped) for event in scene.events)


@pytest.mark.parametrize("seed", range(40))
def test_a_free_slot_is_taken_at_once(seed: int) -> None:
    """At any moment as many jobs run as the limits of the run and the groups admit, whatever the order of the input."""
    dice = random.Random(seed)
    limit, limit_per_group = dice.choice([1, 3, 5, None]), dice.choice([None, 1, 2, 3])
    inputs = [dice.choice("aaabbcdefg") for _ in range(60)]
    left, running = Counter(inputs), Counter[str]()
    ticks = {group: dice.choice([1, 1, 2, 7]) for group in left}

    async def fetch(group: str) -> None:
        running[group] += 1
        await pause(ticks[group])
        running[group] -= 1
        left[group] -= 1

    async def watch() -> None:
        await asyncio.sleep(TICK / 2)
        while left.total():
            most = sum(min(count, limit_per_group or count) for count in left.values())
            assert running.total() == min(limit or most, most)
            await asyncio.sleep(TICK)

    async def main() -> None:
        watching = asyncio.ensure_future(watch())
        source = inputs if seed % 2 else iter(inputs)
        report = await map_all(fetch, source, limit=limit, group_by=str, limit_per_group=limit_per_group)
        assert report.ok
        await watching

    loop = VirtualLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("seed", range(16))
def test_a_cancel_at_any_step(seed: int, counts: "Counter[str]", *, thorough: bool) -> None:
    """Whatever the groups are doing then, the rules of a clean end hold."""
    cancel_everywhere(lambda witness: Scene(seed).play(witness), counts, thorough=thorough)


@pytest.mark.parametrize("seed", range(12))
def test_random_runs_with_groups_and_a_journal(tmp_path: Path, seed: int) -> None:
    """Each success that one run has reported is replayed by the next run, whatever their groups do."""
    done: set[int] = set()
    for round_ in range(2):
        scene = Scene(seed, Journal(tmp_path / "run.db"))  # type: ignore[arg-type]
        scene.end = ""

        async def caller(scene: Scene = scene) -> list[Any]:
            witness = Witness.__new__(Witness)
            witness.pulled, witness.read, witness._runs, witness._stages = 0, [], [], []
            run = scene.run(witness)
            report = await run
            assert sorted(outcome.index for outcome in report) == list(range(scene.size))
            return [*report]

        with listen(lambda _: None):
            outcomes = asyncio.run(caller())
        replayed = {outcome.input for outcome in outcomes if isinstance(outcome, Success) and outcome.replayed}
        assert replayed == done, round_
        done |= {outcome.input for outcome in outcomes if isinstance(outcome, Success)}
