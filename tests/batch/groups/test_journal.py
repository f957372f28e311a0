"""Runs with groups and a journal: known inputs are in no group, and the others are called as ever."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import JobFinished, Journal, Pending, Success, listen, map_all
from aiosupervise._batch._groups import feed


async def fetch(page: str) -> str:
    """Fetch a page."""
    await asyncio.sleep(0)
    return page


def host_of(page: str) -> str:
    """Return the group of a page: its first letter."""
    return page[0]


@pytest.mark.parametrize("lazy", [False, True])
async def test_known_inputs_are_not_called_again(tmp_path: Path, *, lazy: bool) -> None:
    """The index is given when an input is pulled, and the others start as their groups let them."""
    known = ["a1", "b1", "a3"]
    await map_all(fetch, known, journal=tmp_path / "run.db")
    asked = []

    async def again(page: str) -> str:
        asked.append(page)
        return await fetch(page)

    inputs = ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]

    async def pages() -> AsyncIterator[str]:
        for page in inputs:
            yield page

    source: Any = pages() if lazy else inputs
    journal = tmp_path / "run.db"
    groups: dict[object, object] = {}

    def on_event(event: object) -> None:
        if isinstance(event, JobFinished):
            groups[event.outcome.input] = event.group

    with listen(on_event):
        report = await map_all(
            again, source, journal=journal, name="fetch", group_by=host_of, limit_per_group=1, strategy="as_completed"
        )
    assert groups == dict.fromkeys(known) | {"a0": "a", "a2": "a", "b0": "b", "b2": "b"}
    assert sorted((outcome.index, outcome.input) for outcome in report) == [*enumerate(inputs)]
    assert [outcome.input for outcome in report.succeeded if outcome.replayed] == ["a1", "a3", "b1"]
    assert sorted(asked) == ["a0", "a2", "b0", "b2"]


async def test_known_inputs_do_not_widen_the_look_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While inputs are looked up in batches, too, a lazy source is pulled no further than the bound."""
    monkeypatch.setattr(feed, "LOOK_AHEAD", 30)
    journal = tmp_path / "run.db"
    await map_all(fetch, ["b"], journal=journal)
    pulled = 0

    def pages() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield f"a{pulled}"

    async def hang(_: str) -> None:
        await asyncio.Event().wait()

    run = map_all(hang, pages(), journal=journal, name="fetch", group_by=host_of, limit_per_group=1, limit=8)
    task = asyncio.ensure_future(run)
    seen = -1
    while not 0 < seen == pulled:
        seen = pulled
        await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pulled == 80 + 1


async def test_an_input_without_a_key_starts_no_job(tmp_path: Path) -> None:
    """Also one that waited for its group while the source was silent: it is pending, and the error is raised once."""

    def key(page: str) -> str:
        if page == "a2":
            raise LookupError("no key")
        return page

    async def pages() -> AsyncIterator[str]:
        yield "a1"
        yield "a2"
        await asyncio.Event().wait()

    journal = Journal(tmp_path / "run.db", key=key)
    run = map_all(fetch, pages(), journal=journal, group_by=host_of, limit_per_group=1)
    with pytest.raises(TypeError, match="the key function of the journal raised for input 1: LookupError: no key"):
        await run
    ends = [(type(outcome), outcome.index, outcome.input) for outcome in run.report]
    assert ends == [(Success, 0, "a1"), (Pending, 1, "a2")]
