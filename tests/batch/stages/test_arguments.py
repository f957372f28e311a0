"""Which runs can be the inputs of the next stage, and what is said about the others."""

import asyncio
import gc
import signal
from pathlib import Path
from typing import Any

import pytest

from aiosupervise import Journal, Run, map_all, run_all


async def fetch(page: int) -> int:
    """Fetch a page."""
    await asyncio.sleep(0)
    return page


async def parse(page: int) -> int:
    """Parse a page."""
    await asyncio.sleep(0)
    return page


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("strategy and return_when belong", {"strategy": "as_completed"}),
        ("strategy and return_when belong", {"strategy": "wait", "return_when": "FIRST_COMPLETED"}),
        ("stop_on belongs", {"stop_on": [signal.SIGINT]}),
        ("listen belongs", {"listen": print}),
    ],
)
async def test_what_belongs_to_the_last_stage(name: str, options: dict[str, Any]) -> None:
    """It is a TypeError on an earlier one, which names the stage and the repair."""
    pages = map_all(fetch, [1, 2], **options)
    with pytest.raises(TypeError, match=f"{name} to the last of several stages; the run fetch, an earlier one, has"):
        map_all(parse, pages)


async def test_an_entered_run_is_no_input() -> None:
    """The error shows both ways: give the run before it is entered, or an async generator that reads it."""
    async with map_all(fetch, [1, 2]) as pages:
        with pytest.raises(TypeError, match="must not be entered") as caught:
            map_all(parse, pages)
        assert "map_all(parse, map_all(fetch, urls))" in str(caught.value)
        assert "(page.value async for page in run if isinstance(page, Success))" in str(caught.value)
        assert [outcome.value async for outcome in pages] == [1, 2]  # type: ignore[union-attr]


async def test_a_run_that_was_used_is_no_input() -> None:
    """As it cannot be awaited a second time."""
    pages = map_all(fetch, [1, 2])
    await pages
    with pytest.raises(TypeError, match="used before, and a run is used once"):
        map_all(parse, pages)


async def test_run_all_takes_no_run_as_jobs() -> None:
    """The values of a run are no jobs; the error shows what may have been meant."""
    with pytest.raises(TypeError, match="jobs must be an iterable of jobs, and a run is one job") as caught:
        run_all(map_all(fetch, [1, 2]))  # type: ignore[arg-type]
    assert "run_all([run])" in str(caught.value)
    assert "map_all(func, run)" in str(caught.value)


async def test_a_run_that_a_task_runs_is_no_input() -> None:
    """The error leaves the task alone."""
    pages = map_all(fetch, [1, 2])
    task = asyncio.create_task(pages)
    await asyncio.sleep(0)
    with pytest.raises(TypeError, match="used before, and a run is used once"):
        map_all(parse, pages)
    async with asyncio.timeout(5):
        assert (await task).values() == [1, 2]


async def test_a_run_has_one_owner() -> None:
    """The error names it."""
    pages = map_all(fetch, [1, 2])
    run = map_all(parse, pages)
    with pytest.raises(TypeError, match="is started and read by the run parse: await or enter that one"):
        map_all(parse, pages, name="another")
    assert (await run).values() == [1, 2]


async def test_an_owned_run_names_its_owner() -> None:
    """When somebody awaits or enters it, or gives it to a task; and in its repr."""
    pages: Run[int, int] = map_all(fetch, [1, 2])
    run = map_all(parse, pages)
    assert repr(pages) == "<Run fetch: a stage of parse; 0 running, 0 succeeded, 0 failed, 0 pending>"
    with pytest.raises(RuntimeError, match="is started and read by the run parse: await or enter that one"):
        await pages
    with pytest.raises(RuntimeError, match="is started and read by the run parse"):
        await asyncio.create_task(pages)
    with pytest.raises(RuntimeError, match="is started and read by the run parse"):
        async with pages:
            pass
    with pytest.raises(RuntimeError, match="is started and read by the run parse"):
        pages.stop()
    assert len(pages.report) == 0
    assert (await run).values() == [1, 2]
    assert pages.tally.succeeded == 2


async def test_a_total_is_that_of_the_first_stage() -> None:
    """A later one has as many outcomes as the first has jobs."""
    with pytest.raises(ValueError, match=r"^total is for the first of several stages, .*: write it there$"):
        map_all(parse, map_all(fetch, [1, 2]), total=2)


async def test_stages_that_are_never_awaited_warn_once() -> None:
    """The last one warns, unless it is closed, and the coroutines that the first one holds are closed."""
    map_all(parse, map_all(fetch, run_all([fetch(1), fetch(2)]))).close()
    with pytest.warns(RuntimeWarning, match="<Run parse: not started; .*> was never awaited") as caught:
        map_all(parse, map_all(fetch, run_all([fetch(1), fetch(2)])))
    assert len(caught) == 1


async def test_a_refused_stage_closes_the_stages_before() -> None:
    """Their coroutines would warn that they were never awaited."""
    with pytest.raises(ValueError, match="limit must be an integer of at least 1"):
        map_all(parse, run_all([fetch(1), fetch(2)]), limit=0)
    gc.collect()


async def test_a_journal_needs_inputs(tmp_path: Path) -> None:
    """Its keys are those of the first stage's inputs, and the jobs of run_all have none."""
    with pytest.raises(TypeError, match="the jobs of run_all have none: write map_all for the first stage"):
        map_all(parse, map_all(parse, run_all([fetch(1)])), journal=tmp_path / "run.db")


async def test_a_journal_needs_keys_of_the_first_inputs(tmp_path: Path) -> None:
    """An input that has none is refused at once."""
    with pytest.raises(TypeError, match="key="):
        map_all(parse, map_all(fetch, [object()]), journal=tmp_path / "run.db")  # type: ignore[arg-type]


async def test_stages_of_one_name_in_one_journal(tmp_path: Path) -> None:
    """The journal could not tell their results apart."""
    journal = Journal(tmp_path / "run.db")
    with pytest.raises(ValueError, match="two stages have the name fetch: write name= for one of them"):
        map_all(fetch, map_all(fetch, [1], journal=journal), journal=journal)
    with pytest.raises(ValueError, match="two stages have the name fetch: write name= for one of them"):
        map_all(fetch, map_all(parse, map_all(fetch, [1], journal=journal)), journal=journal)
    pages = map_all(fetch, map_all(parse, [1], journal=tmp_path / "another.db"), journal=journal)
    with pytest.raises(ValueError, match="two stages have the name fetch: write name= for one of them"):
        map_all(fetch, pages, journal=journal)


async def test_stages_of_one_file_share_a_journal(tmp_path: Path) -> None:
    """A file is opened once."""
    path = tmp_path / "run.db"
    with pytest.raises(ValueError, match="must share one Journal, since a file is opened once"):
        map_all(parse, map_all(fetch, [1], journal=path), journal=path)
    pages = map_all(fetch, [1], journal=tmp_path / "another.db")
    assert (await map_all(parse, pages, journal=path)).values() == [1]
