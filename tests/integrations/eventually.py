"""Waiting for what another task, thread or process does, in tests on a real clock."""

import asyncio
from collections.abc import Callable

_PERIOD = 0.005  # seconds between two checks


async def eventually(condition: Callable[[], object], *, within: float = 30.0) -> None:
    """Wait until the condition holds; fail if it does not within this many seconds.

    The deadline only distinguishes a hang from a slow machine: a test that passes never waits for it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, f"the condition did not hold within {within:g} s"
        await asyncio.sleep(_PERIOD)
