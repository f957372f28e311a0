"""The sweep of supervisors: cancel the caller of a scripted one at each step of the loop, once, twice, and from there
on at every step until it ends, as anyio's cancel scopes do. An ordinary run begins at every third step only.

After each of these ends, all rules of `supervisor_laws` hold, and a cancellation that the task of the caller
has accepted is raised.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from zlib import crc32

import pytest

from aiosupervise._supervisor.registry import RestartStrategy

from .loops import moments, on_every_loop
from .scripted_supervisors import ANY_TIME, VIRTUAL_TIME, ScriptedSupervisor
from .supervisor_laws import Watch, play_supervisor

STRATEGIES: list[RestartStrategy] = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]

EVERY = 3  # steps, of an ordinary run


def sweep(
    loop: asyncio.AbstractEventLoop,
    script: ScriptedSupervisor,
    strategy: RestartStrategy,
    counts: Counter[str],
    *,
    thorough: bool,
) -> None:
    """Play a scripted supervisor, then once for each of its steps, and for pairs of steps up to five apart.

    Which of the first steps an ordinary run begins with depends on the case.
    """
    steps, escalated = 0, []

    def scene(watch: Watch) -> Awaitable[object]:
        return script(watch, strategy)

    async def whole(watch: Watch) -> None:
        await scene(watch)
        escalated.append(watch.escalated)

    steps = play_supervisor(loop, whole, listened=True).count
    assert escalated == ["escalation" in script.__name__], "the script was not played as written"
    counts["supervisor sweep: scripted supervisors"] += 1
    counts["supervisor sweep: steps"] += steps
    first = 1 if thorough else 1 + crc32(f"{script.__name__} {strategy} {type(loop)}".encode()) % EVERY
    for k in range(first, steps + 1, 1 if thorough else EVERY):
        for cancel_at in moments(k, thorough=thorough):
            listened = (k + (cancel_at[-1] != k)) % 2 == 0
            counts["supervisor sweep: cancels"] += play_supervisor(loop, scene, cancel_at, listened=listened).cancels
            counts["supervisor sweep: cancelled supervisors"] += 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@on_every_loop(ANY_TIME, VIRTUAL_TIME)
def test_a_cancel_at_any_step(
    loop: asyncio.AbstractEventLoop,
    script: ScriptedSupervisor,
    strategy: RestartStrategy,
    counts: Counter[str],
    *,
    thorough: bool,
) -> None:
    """Whenever and however often the caller is cancelled, every rule of a clean end holds."""
    sweep(loop, script, strategy, counts, thorough=thorough)
