"""The sweep: cancel the caller of a scripted run at every single step of the loop, once, twice,
and from there on at every step until it ends, as anyio's cancel scopes do.

After each of these ends all the rules of `laws` hold, and a cancel that the caller's task has accepted comes out.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable

import pytest

from .laws import Witness, play
from .loops import moments, on_every_loop
from .scenarios import ANY_TIME, VIRTUAL_TIME, Scenario, Strategy

STRATEGIES: list[Strategy] = ["gather", "as_completed", "wait"]


def sweep(
    loop: asyncio.AbstractEventLoop, scenario: Scenario, strategy: Strategy, counts: Counter[str], *, thorough: bool
) -> None:
    """Play a scenario, then again for each of its steps, and each pair of steps up to five apart, or of some.

    Half of the times somebody listens.
    """

    def scene(witness: Witness) -> Awaitable[object]:
        return scenario(witness, strategy)

    steps = play(loop, scene).count
    counts["sweep: scripted runs"] += 1
    counts["sweep: steps"] += steps
    for k in range(1, steps + 1):
        for cancel_at in moments(k, thorough=thorough):
            listened = (k + (cancel_at[-1] != k)) % 2 == 0  # a call that is listened to takes a way of its own
            counts["sweep: cancels"] += play(loop, scene, cancel_at, listened=listened).cancels
            counts["sweep: cancelled runs"] += 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@on_every_loop(ANY_TIME, VIRTUAL_TIME)
def test_a_cancel_at_any_step(
    loop: asyncio.AbstractEventLoop, script: Scenario, strategy: Strategy, counts: Counter[str], *, thorough: bool
) -> None:
    """However often and whenever the caller is cancelled, every rule of a clean end holds."""
    sweep(loop, script, strategy, counts, thorough=thorough)
