"""The flaky site: each fault over a real socket, and the same luck for the same seed."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import aiohttp
import pytest

from aiosupervise.examples import site as site_module
from aiosupervise.examples.site import ODDS, Fault, flaky_site

IMPATIENT = aiohttp.ClientTimeout(sock_read=0.1)  # where a page stalls; the other pages may take their time


@pytest.fixture(autouse=True)
def fast_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that take no time, so that only stalls do."""
    monkeypatch.setattr("aiosupervise.examples.site._SLOWEST_PAGE", 0.0)


async def fetch(session: aiohttp.ClientSession, url: str) -> str:
    """What a client sees of a page: its status, or the name of the error."""
    try:
        async with session.get(url) as response:
            await response.read()
            return str(response.status)
    except (aiohttp.ClientError, TimeoutError) as error:
        return type(error).__name__


async def seen(seed: int, urls: list[str], *, at_once: bool, odds: dict[Fault, float]) -> dict[str, list[str]]:
    """What a client sees of some pages, three times each."""
    async with flaky_site(seed, odds) as site, aiohttp.ClientSession() as session:

        async def thrice(url: str) -> list[str]:
            return [await fetch(session, site + url) for _ in range(3)]

        if at_once:
            return dict(zip(urls, await asyncio.gather(*map(thrice, urls)), strict=True))
        return {url: await thrice(url) for url in urls}


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (Fault.DROP, "ServerDisconnectedError"),
        (Fault.STALL, "SocketTimeoutError"),
        (Fault.CUT, "ClientPayloadError"),
        (Fault.BUSY, "503"),
        (Fault.BROKEN, "500"),
    ],
)
async def test_each_fault(fault: Fault, result: str) -> None:
    """Each fault reaches the client as the error or the status that a real site causes."""
    timeout = IMPATIENT if fault is Fault.STALL else None
    async with flaky_site(odds={fault: 1.0}) as site, aiohttp.ClientSession(timeout=timeout) as session:
        assert await fetch(session, f"{site}/page") == result


async def test_a_busy_site_says_when_to_come_back() -> None:
    """The 503 asks for a second, in HTTP's whole seconds."""
    async with (
        flaky_site(odds={Fault.BUSY: 1.0}) as site,
        aiohttp.ClientSession() as session,
        session.get(f"{site}/page") as response,
    ):
        assert response.headers["Retry-After"] == "1"


async def test_a_patient_client_gets_the_stalled_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stall is late, not wrong: who waits gets the page."""
    monkeypatch.setattr("aiosupervise.examples.site._STALL", 0.01)
    async with flaky_site(odds={Fault.STALL: 1.0}) as site, aiohttp.ClientSession() as session:
        assert await fetch(session, f"{site}/page") == "200"


async def test_no_odds_no_faults() -> None:
    """With nothing in the odds every path is a page."""
    pages = await seen(1, ["/", "/page", "/a/b?c=d"], at_once=True, odds={})
    assert set(map(tuple, pages.values())) == {("200", "200", "200")}


async def test_the_same_seed_brings_the_same_luck() -> None:
    """Neither another port nor another order of the requests changes what the nth request of a path meets."""
    odds = {Fault.DROP: 0.2, Fault.CUT: 0.2, Fault.BROKEN: 0.2}
    urls = [f"/{n}" for n in range(5)]
    at_once = await seen(3, urls, at_once=True, odds=odds)
    assert await seen(3, urls[::-1], at_once=False, odds=odds) == at_once
    assert await seen(4, urls, at_once=True, odds=odds) != at_once


async def test_odds_leave_most_requests_alone() -> None:
    """The site of the example has every fault, and still answers more often than not."""
    assert set(ODDS) == set(Fault)
    assert 0.0 < sum(ODDS.values()) < 0.5
    answers = await seen(1, [f"/{n}" for n in range(40)], at_once=True, odds={Fault.BROKEN: 0.5})
    assert 40 < Counter(status for page in answers.values() for status in page)["200"] < 80


async def test_the_end_of_the_site_does_not_wait_for_stalled_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving ends what still stalls, and leaves no task behind."""
    before = asyncio.all_tasks()
    stalls = asyncio.Event()

    async def for_ever(seconds: float) -> None:
        if seconds == site_module._STALL:
            stalls.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(site_module, "asyncio", SimpleNamespace(sleep=for_ever))
    async with aiohttp.ClientSession() as session:
        async with flaky_site(odds={Fault.STALL: 1.0}) as site:
            stalled = asyncio.create_task(session.get(f"{site}/page"))
            await stalls.wait()
        with pytest.raises(aiohttp.ClientConnectionError):
            await stalled
    assert asyncio.all_tasks() == before


async def test_an_error_in_the_block_ends_the_site() -> None:
    """The port is free again, also when the block raised."""
    site = ""
    with pytest.raises(RuntimeError, match="mine"):
        async with flaky_site() as site:
            raise RuntimeError("mine")
    async with aiohttp.ClientSession() as session:
        assert await fetch(session, site) == "ClientConnectorError"
