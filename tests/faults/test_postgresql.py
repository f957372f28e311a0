"""The policy that the documentation has for asyncpg, with a real PostgreSQL that is restarted under load."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from aiosupervise import Policy, map_all, supervise

from .postgresql import PostgreSQL, binaries, directory

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "classify-errors.md"
JOBS, LIMIT = 100, 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture
async def server() -> AsyncIterator[PostgreSQL]:
    """A running server."""
    found = binaries()
    assert found is not None
    with directory() as path:
        server = PostgreSQL(found, path)
        await server.create()
        await server.start()
        yield server
        await server.stop("immediate")


def policy_of_the_page() -> Policy:
    """The policy as it stands on the page, without a limit of retries: how long a restart takes is the machine's."""
    section = PAGE.read_text().partition("\n## asyncpg\n")[2]
    block = re.search(r"```python\n(.*?)@supervise", section, re.DOTALL)
    assert block is not None
    names: dict[str, Policy] = {}
    exec(block[1], names)  # noqa: S102 - the page is the subject of the test
    return names["to_the_database"].replace(max_retries=None)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_under_load_loses_no_job(server: PostgreSQL, mode: str) -> None:
    """Each of a hundred transactions is done, also those that the restart interrupted, and the books balance."""
    is_down = asyncio.Event()
    restarting: asyncio.Task[None] | None = None
    begun = 0

    async def restart() -> None:
        await server.stop(mode)
        is_down.set()
        await server.start()

    @supervise(policy_of_the_page())
    async def move(job: int) -> None:
        nonlocal begun, restarting
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE accounts SET sum = sum - 1 WHERE id = $1", 2 * job)
            begun += 1
            if begun == LIMIT:
                restarting = asyncio.create_task(restart())
            # Half of the interrupted transactions are idle at that moment, the other half in the middle of a query.
            if job % 2:
                await is_down.wait()
            elif not is_down.is_set():
                await connection.execute("SELECT pg_sleep(600)")
            await connection.execute("UPDATE accounts SET sum = sum + 1 WHERE id = $1", 2 * job + 1)

    address = {"host": "127.0.0.1", "port": server.port, "user": "test", "database": "postgres"}
    async with asyncpg.create_pool(**address, min_size=LIMIT, max_size=LIMIT) as pool:
        await pool.execute("CREATE TABLE accounts (id int PRIMARY KEY, sum int NOT NULL)")
        await pool.execute("INSERT INTO accounts SELECT id, 0 FROM generate_series(0, $1) AS id", 2 * JOBS - 1)
        report = await map_all(move, range(JOBS), limit=LIMIT)
        assert restarting is not None
        await restarting
        assert [repr(failure.error) for failure in report.failed] == []
        assert report.tally.succeeded == JOBS
        assert report.tally.retries >= LIMIT
        sums = await pool.fetch("SELECT id, sum FROM accounts ORDER BY id")
        moved = [(-sums[2 * job]["sum"], sums[2 * job + 1]["sum"]) for job in range(JOBS)]
        assert all(taken == given >= 1 for taken, given in moved)
