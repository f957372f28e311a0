"""The defaults: how long a dead dependency is survived, and when a child that fails for ever ends its supervisor."""

import asyncio
import inspect
import logging
import random
import re
from pathlib import Path

import pytest

from aiosupervise import Backoff, Supervisor

from .scene import now

SEEDS = 100
OUTAGES = (30.0, 60.0, 120.0, 180.0, 300.0)  # the columns of the page's table
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "explanation/supervisors.md"
pytestmark = [pytest.mark.looptime, pytest.mark.slow]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of failures are of no interest here."""
    caplog.set_level(logging.CRITICAL, "aiosupervise")


async def survives(outage: float, max_restarts: int = 20) -> bool:
    """Whether ten children survive that what they depend on is down for so long."""
    back = now() + outage

    async def child() -> None:
        await asyncio.sleep(0.01)
        if now() < back:
            raise ConnectionError
        await asyncio.Event().wait()

    try:
        async with Supervisor(max_restarts=max_restarts) as sup:
            for _ in range(10):
                sup.start(child)
            await asyncio.sleep(outage + 30)
            assert sup.is_healthy
            sup.stop()
    except ExceptionGroup:
        return False
    return True


async def survivors(outage: float, max_restarts: int = 20) -> int:
    """How many of the supervisors survive an outage."""
    survived = 0
    for seed in range(SEEDS):
        random.seed(seed)
        survived += await survives(outage, max_restarts)
    return survived


async def times_to_give_up(max_restarts: int = 20) -> list[float]:
    """After which time each of the supervisors gives up on a child that fails at once, each time."""

    async def broken() -> None:
        raise ConnectionError

    taken: list[float] = []
    for seed in range(SEEDS):
        random.seed(seed)
        start = now()
        with pytest.raises(ExceptionGroup):
            async with Supervisor(max_restarts=max_restarts) as sup:
                sup.start(broken)
        taken.append(now() - start)
    return taken


async def test_ten_children_survive_an_outage_of_half_a_minute() -> None:
    """In at least 99 of 100 seeds; all of them run again half a minute later."""
    assert await survivors(30.0) >= 99


async def test_a_child_that_fails_for_ever_ends_its_supervisor_within_ten_minutes() -> None:
    """The supervisor gives up after its restarts and their delays: neither at once nor never."""
    taken = await times_to_give_up()
    assert min(taken) > 60
    assert max(taken) < 600


def rows() -> list[list[str]]:
    """The table on the page that explains the defaults."""
    section = PAGE.read_text("utf-8").partition("### The default numbers\n")[2].partition("\n## ")[0]
    return [re.findall(r"\d+", line) for line in section.splitlines() if re.match(r"\| \d", line)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"max_restarts={row[0]}")
async def test_the_page_shows_what_the_simulations_say(row: list[str], *, thorough: bool) -> None:
    """Each number of the table; an ordinary run takes the time to give up alone."""
    max_restarts, *survived, least, most = map(int, row)
    taken = await times_to_give_up(max_restarts)
    assert (round(min(taken)), round(max(taken))) == (least, most)
    if thorough:
        assert [await survivors(outage, max_restarts) for outage in OUTAGES] == survived


def test_the_pages_name_the_defaults() -> None:
    """Those of the constructor, in the table of the reference and in the explanation."""
    defaults = {name: one.default for name, one in inspect.signature(Supervisor).parameters.items()}
    reference = (DOCS / "reference/supervisors.md").read_text("utf-8").partition("| keyword of `sup.start` |")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \|.*\| (?:`(?=.*` \|$))?(.*?)`? \|$", reference, re.MULTILINE))
    assert {name: repr(value) for name, value in defaults.items()} == {
        name: repr(eval(value, {"Backoff": Backoff}))  # noqa: S307 - written by ourselves
        for name, value in shown.items()
    }
    names = ("max_restarts", "within", "backoff", "reset_after")
    assert [defaults[name] for name in names] == [20, 60.0, Backoff(base=0.1, cap=30.0), 30.0]
    assert rows()[0][0] == str(defaults["max_restarts"])
