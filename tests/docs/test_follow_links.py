"""The crawler on the page about links: it ends, asks for each page once, and takes every argument of `map_all`."""

import asyncio
import contextlib
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import looptime
import pytest

from aiosupervise import Journal, Overload, supervise

PAGE = Path(__file__).parents[2] / "docs/how-to/follow-links.md"
SITE = {f"{host}{n}": [f"{host}{n + 1}", f"{host}{n * 2}", "a1", f"b{n}"] for host in "ab" for n in range(1, 20)}


class Crawler:
    """The code of the section, with a site of ours in place of its own."""

    def __init__(self) -> None:
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        code = next(block for block in blocks if "async def crawl(start, **options)" in block)
        self.scope: dict[str, Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, self.scope)  # noqa: S102 - it is what the page shows
        self.asked: Counter[str] = Counter()
        self.scope["fetch"] = self.fetch
        self.dead = ""

    async def fetch(self, page: str) -> list[str]:
        """Fetch a page, and return its links; some pages are missing."""
        self.asked[page] += 1
        await asyncio.sleep(0.1)
        if page[0] == self.dead:
            raise ConnectionError(page)
        return SITE[page]

    def crawl(self, **options: Any) -> set[str]:
        """Crawl the site from its first page, and return the pages that were found."""

        async def main() -> set[str]:
            async with asyncio.timeout(1000):  # of virtual time: a crawl that does not end
                found: set[str] = await self.scope["crawl"]("a1", **options)
                return found

        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            return runner.run(main())


@pytest.fixture
def crawler() -> Crawler:
    """A crawler."""
    return Crawler()


@pytest.mark.parametrize("options", [{}, {"limit": 1}, {"limit": None}, {"group_by": lambda page: page[0]}])
def test_each_page_once(crawler: Crawler, options: dict[str, Any]) -> None:
    """Whatever the limit; missing pages are found and have no links."""
    found = crawler.crawl(**options)
    assert set(SITE) < found
    assert crawler.asked == Counter(found)


def test_a_stopped_group(crawler: Crawler) -> None:
    """The pages of a host that stays down are pending, and the crawl ends all the same."""
    crawler.dead = "b"
    crawler.scope["fetch"] = supervise(retry_on=ConnectionError, backoff=[0])(crawler.fetch)
    overload = Overload(first_pause=0.1, longest_pause=0.1, probes=1)
    found = crawler.crawl(group_by=lambda page: page[0], limit_per_group=2, overload=overload)
    assert {page for page in SITE if page[0] == "a"} < found


def test_a_journal(crawler: Crawler, tmp_path: Path) -> None:
    """Known pages are not asked for again, but their links are followed."""
    found = crawler.crawl(journal=Journal(tmp_path / "run.db"), name="fetch", timeout=0.55, limit=3)
    first = crawler.asked.copy()
    assert crawler.crawl(journal=Journal(tmp_path / "run.db"), name="fetch") >= found
    assert set(SITE) < set(crawler.asked)
    again = [page for page, count in crawler.asked.items() if count > 1 and page in SITE]
    assert len(again) <= 3
    assert len(first) > 3


@pytest.mark.parametrize("options", [{"timeout": 0.55}, {"max_failures": 0}, {"limit": 2, "max_failures": 1}])
def test_every_end(crawler: Crawler, options: dict[str, Any]) -> None:
    """An early end ends the wait for the queue too."""
    found = crawler.crawl(**options)
    assert set(crawler.asked) <= found
    assert len(crawler.asked) < len(SITE)


def test_a_dead_site(crawler: Crawler) -> None:
    """A run that its probes stop ends the crawl."""
    crawler.dead = "a"
    crawler.scope["fetch"] = supervise(retry_on=ConnectionError, backoff=[0], max_retries=None)(crawler.fetch)
    assert crawler.crawl(overload=Overload(first_pause=0.1, longest_pause=0.1, probes=2)) == {"a1"}
