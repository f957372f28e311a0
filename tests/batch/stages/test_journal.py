"""Stages with journals: each looks up what it has done by the input of the first stage."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import Failure, Journal, Pending, Success, map_all
from aiosupervise._batch._journal.session import Session


class Stage:
    """The function of a stage: it records what it is called with, and fails for some of it."""

    def __init__(self, name: str, *, fails: list[Any] | None = None, most_turns: int = 0) -> None:
        self.__name__ = name
        self.asked: list[Any] = []
        self._fails = fails or []
        self._turns = most_turns

    async def __call__(self, value: Any) -> Any:
        self.asked.append(value)
        for _ in range(random.randint(0, self._turns)):
            await asyncio.sleep(0)
        if value in self._fails:
            raise LookupError(value)
        return [value, self.__name__]


async def test_what_each_stage_has_done_is_known_to_it(tmp_path: Path) -> None:
    """By the same line run again, whatever came of the value in the stages after it."""
    journal = Journal(tmp_path / "run.db")
    fetch, parse = Stage("fetch", fails=[1]), Stage("parse", fails=[[2, "fetch"]])
    report = await map_all(parse, map_all(fetch, [0, 1, 2, 3], journal=journal), journal=journal)
    assert [type(outcome) for outcome in report] == [Success, Failure, Failure, Success]
    fetch, parse = Stage("fetch"), Stage("parse")
    report = await map_all(parse, map_all(fetch, [0, 1, 2, 3], journal=journal), journal=journal)
    assert fetch.asked == [1]
    assert sorted(parse.asked) == [[1, "fetch"], [2, "fetch"]]
    assert report.values() == [[[page, "fetch"], "parse"] for page in range(4)]
    assert [success.replayed for success in report.succeeded] == [True, False, False, True]
    assert [success.input for success in report.succeeded] == [0, 1, 2, 3]
    assert report.tally.replayed == 2


async def test_the_key_is_the_input_of_the_first_stage(tmp_path: Path) -> None:
    """So it does not matter what the value is, and `key` gets that input."""
    keys: list[object] = []

    def key(page: str) -> str:
        keys.append(page)
        return page

    async def fetch(page: str) -> object:
        return {page}  # a set has no key

    async def parse(page: object) -> int:
        return len(str(page))

    journal = Journal(tmp_path / "run.db", key=key)
    report = await map_all(parse, map_all(fetch, ["a", "bc"]), journal=journal)
    assert report.values() == [5, 6]
    assert {*keys} == {"a", "bc"}


async def test_equal_inputs_in_any_order(tmp_path: Path) -> None:
    """Each has a row of its own in each stage, whenever its value comes."""
    journal = Journal(tmp_path / "run.db")
    pages = [0, 1, 0, 1, 0]
    for known in (0, 5):
        fetch, parse = Stage("fetch", most_turns=9), Stage("parse", most_turns=9)
        report = await map_all(parse, map_all(fetch, pages, journal=journal, limit=3), journal=journal, limit=2)
        assert report.values() == [[[page, "fetch"], "parse"] for page in pages]
        assert report.tally.replayed == known
        assert (len(fetch.asked), len(parse.asked)) == (5 - known, 5 - known)


async def test_a_stage_without_a_journal_runs_again(tmp_path: Path) -> None:
    """Each stage has its own journal or none: what it has not stored, it does again."""
    journal = Journal(tmp_path / "run.db")
    for asked in (2, 0):
        fetch, parse = Stage("fetch"), Stage("parse")
        await map_all(parse, map_all(fetch, [0, 1]), journal=journal)
        assert (len(fetch.asked), len(parse.asked)) == (2, asked)


async def test_attempts_and_seconds_of_known_stages(tmp_path: Path) -> None:
    """They are the sums of what each stage has stored, as in the run that was not disturbed."""
    journal = Journal(tmp_path / "run.db")
    outcomes = []
    for _ in range(2):
        pages = map_all(Stage("fetch"), [0, 1], journal=journal)
        report = await map_all(Stage("parse"), pages, journal=journal)
        outcomes.append([(success.attempts, success.elapsed) for success in report.succeeded])
    first, again = outcomes
    assert [attempts for attempts, _ in first] == [attempts for attempts, _ in again] == [1, 1]
    assert [elapsed for _, elapsed in first] == pytest.approx([elapsed for _, elapsed in again], abs=1e-6)


async def test_values_at_hand_are_looked_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up for each value would take a turn of the writer's thread for each."""
    sizes: list[int] = []

    async def look_up(session: Session, keys: Any) -> Any:
        sizes.append(len(keys))
        return await found(session, keys)

    found = Session.look_up
    monkeypatch.setattr(Session, "look_up", look_up)
    journal = Journal(tmp_path / "run.db")
    for _ in range(2):
        sizes.clear()
        await map_all(Stage("parse"), map_all(Stage("fetch"), range(100), journal=journal), journal=journal)
    assert sum(sizes) == 200
    assert len(sizes) < 20


@pytest.mark.parametrize("grouped", [0, 1])
async def test_groups_and_journals(tmp_path: Path, grouped: int) -> None:
    """A stage may have both; known inputs are in no group."""
    journal = Journal(tmp_path / "run.db")
    for asked in (6, 0):
        fetch, parse = Stage("fetch"), Stage("parse")
        groups: list[dict[str, Any]] = [{}, {}]
        groups[grouped] = {"group_by": lambda page: page if isinstance(page, int) else page[0], "limit_per_group": 1}
        pages = map_all(fetch, [0, 1, 2, 0, 1, 2], journal=journal, **groups[0])
        report = await map_all(parse, pages, journal=journal, **groups[1])
        assert report.values() == [[[page, "fetch"], "parse"] for page in [0, 1, 2] * 2]
        assert (len(fetch.asked), len(parse.asked)) == (asked, asked)


async def test_a_value_that_cannot_be_stored(tmp_path: Path) -> None:
    """The error of the stage is raised, once; each input has its outcome all the same."""

    async def fetch(page: int) -> object:
        await asyncio.sleep(0)
        return {page} if page == 1 else page

    run = map_all(Stage("parse"), map_all(fetch, [0, 1, 2, 3], limit=2, journal=tmp_path / "run.db"))
    with pytest.raises(TypeError, match="fetch-1"):
        await run
    outcomes = [*run.report]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert all(isinstance(outcome, (Success, Pending)) for outcome in outcomes)


async def test_the_error_about_a_key_names_the_index_of_the_first_input(tmp_path: Path) -> None:
    """It is the same in all stages."""

    def key(page: str) -> str:
        if page == "b":
            raise LookupError("no key")
        return page

    journal = Journal(tmp_path / "run.db", key=key)
    run = map_all(Stage("parse"), map_all(Stage("fetch"), iter("ab")), journal=journal)
    with pytest.raises(TypeError, match="the key function of the journal raised for input 1: LookupError: no key"):
        await run
