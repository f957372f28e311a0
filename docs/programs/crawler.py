"""Crawl the pages below a URL: `python crawler.py https://example.org/`."""

import asyncio
import re
import sys

import httpx

from aiosupervise import map_all, supervise
from aiosupervise.integrations.http import is_transient

client = httpx.AsyncClient(follow_redirects=True)


@supervise(retry_on=is_transient, attempt_timeout=10.0)
async def fetch(url):
    """Return the links of a page. Store its text here."""
    response = await client.get(url)
    response.raise_for_status()
    found = re.findall(r'href="([^"#]+)', response.text)
    return {str(response.url.join(link)) for link in found}


async def main(start):
    seen, todo, fetched = {start}, [start], 0
    while todo:  # each round fetches the pages that the round before has found
        report = await map_all(fetch, todo, limit=5, progress=True)
        for failure in report.failed:
            print(f"{failure.input}: {failure.error!r}")
        if report.stopped:
            sys.exit(f"{report.stopped.value}; {len(report.pending)} pages are left")
        fetched += len(report.succeeded)
        found = {link for page in report.succeeded for link in page.value}
        todo = sorted(link for link in found - seen if link.startswith(start))
        seen.update(todo)
    print(fetched, "pages")


sys.exit(asyncio.run(main(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
