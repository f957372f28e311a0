"""The engine of the page "Custom engines", on a run that ends early."""

import asyncio
import gc
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiosupervise import map_all

PAGE = Path(__file__).parents[2] / "docs/how-to/engine.md"


async def test_calls_that_are_cancelled_in_the_queue_leave_no_coroutine() -> None:
    """Python would warn that the coroutine was never awaited; the run waits for the call that has begun."""
    block = re.search(r"```python\n(.*?)async def blocking_square", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)  # noqa: S102 - the page
    begun, released = threading.Event(), threading.Event()

    async def call(number: int) -> int:
        begun.set()
        released.wait()
        return number

    with ThreadPoolExecutor(1) as pool:
        async with map_all(call, range(5), limit=4, engine=names["ThreadEngine"](pool)) as run:
            await asyncio.to_thread(begun.wait)
            asyncio.get_running_loop().call_soon(released.set)
    assert [outcome.index for outcome in run.report.succeeded] == [0]
    assert [outcome.started for outcome in run.report.pending] == [False] * 3
    gc.collect()
