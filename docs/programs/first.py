import asyncio

import aiohttp

from aiosupervise import map_all, supervise
from aiosupervise.examples.site import flaky_site
from aiosupervise.integrations.aiohttp import is_transient


@supervise(retry_on=is_transient, attempt_timeout=10.0)
async def fetch(url):
    async with aiohttp.request("GET", url) as response:
        response.raise_for_status()
        return await response.text()


async def main():
    async with flaky_site(seed=29) as site:  # your site here
        urls = [f"{site}/page/{n}" for n in range(100)]
        report = await map_all(fetch, urls, limit=20, progress=True)
    for failure in report.failed:
        print(f"{failure.input}: {failure.error}")
    print(report)


asyncio.run(main())
