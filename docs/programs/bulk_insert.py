"""Insert a CSV file into PostgreSQL, a thousand rows at a time: `python bulk_insert.py readings.csv`."""

import asyncio
import csv
import sys
from itertools import islice

import asyncpg

from aiosupervise import Success, map_all, supervise

TRANSIENT = (ConnectionError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
INSERT = "INSERT INTO reading (id, value) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"  # may run twice


def chunks(path, size=1000):
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        while chunk := [(int(row["id"]), float(row["value"])) for row in islice(rows, size)]:
            yield chunk


async def main(path):
    async with asyncpg.create_pool(min_size=4, max_size=4) as pool:  # takes PGHOST, PGUSER, ...

        @supervise(retry_on=TRANSIENT, max_retries=5, attempt_timeout=30.0)
        async def insert(chunk):
            async with pool.acquire() as connection, connection.transaction():
                await connection.executemany(INSERT, chunk)
            return len(chunk)

        async with map_all(insert, chunks(path), limit=4, strategy="as_completed") as run:
            async for outcome in run:  # a few chunks are in memory, not the file
                if not isinstance(outcome, Success):
                    print(f"rows from id {outcome.input[0][0]}: {outcome}", file=sys.stderr)
    return 1 - run.report.ok


sys.exit(asyncio.run(main(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
