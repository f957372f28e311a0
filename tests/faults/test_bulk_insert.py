"""The program of the documentation that inserts a file into a database, with a real PostgreSQL."""

import asyncio
import csv
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from .postgresql import PostgreSQL, binaries, directory

PROGRAM = Path(__file__).parents[2] / "docs" / "programs" / "bulk_insert.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
]


async def insert(file: Path, server: PostgreSQL) -> tuple[int | None, str]:
    """Run the program, and return its exit code and what it printed to stderr."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "test", "PGDATABASE": "postgres"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, PROGRAM, file, env=environment, stderr=pipe)
    _, err = await process.communicate()
    return process.returncode, err.decode()


async def test_every_row_is_inserted_once(tmp_path: Path) -> None:
    """Every row of the file is in the table once, however often the program is run; a failed chunk is named."""
    readings = tmp_path / "readings.csv"
    with readings.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "value"), *((key, key / 2) for key in range(4500))])
    found = binaries()
    assert found is not None
    async with AsyncExitStack() as stack:
        server = PostgreSQL(found, stack.enter_context(directory()))
        await server.create()
        await server.start()
        stack.push_async_callback(server.stop, "immediate")
        connection = await asyncpg.connect(host="127.0.0.1", port=server.port, user="test", database="postgres")
        stack.push_async_callback(connection.close)
        await connection.execute("CREATE TABLE reading (id int PRIMARY KEY, value float)")
        for _ in range(2):
            code, err = await insert(readings, server)
            assert code == 0, err
        assert await connection.fetchval("SELECT count(*) FROM reading") == 4500
        await connection.execute("DROP TABLE reading")
        code, err = await insert(readings, server)
        assert code == 1
        assert "rows from id 4000: Failure" in err
