"""Check that URLs answer: `python command.py --limit 20 https://example.org/ ...`."""

import argparse
import asyncio
import sys
from signal import SIGINT, SIGTERM

import httpx

from aiosupervise import map_all, supervise
from aiosupervise.integrations.http import is_transient


async def check(options):
    async with httpx.AsyncClient() as client:

        @supervise(retry_on=is_transient, max_retries=options.max_retries, attempt_timeout=5.0)
        async def status(url):
            return (await client.head(url)).raise_for_status().status_code

        run = map_all(status, options.urls, limit=options.limit, stop_on=(SIGINT, SIGTERM))
        report = await run
    for success in report.succeeded:
        print(success.value, success.input)
    for failure in report.failed:
        print(failure.input, failure.error, sep=": ", file=sys.stderr)
    for pending in report.pending:
        print(pending.input, "not checked", sep=": ", file=sys.stderr)
    return 128 + run.stopped_by if run.stopped_by else 1 - report.ok


def main():
    parser = argparse.ArgumentParser(description="Check that URLs answer.")
    parser.add_argument("urls", nargs="+")
    parser.add_argument("--limit", type=int, default=10, help="how many at once")
    parser.add_argument("--max-retries", type=int, default=3, help="of each URL")
    return asyncio.run(check(parser.parse_args()))


sys.exit(main())
