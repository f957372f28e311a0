"""The sweep: cancel the caller of a scripted run at every single step of the loop, once and twice.

After each of these ends all the rules of `laws` hold, and a cancel that the caller's task has accepted comes out.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from .laws import Witness, play
from .loops import VirtualLoop, eager_loop, moments, uvloop_loop
from .scenarios import ANY_TIME, VIRTUAL_TIME, Scenario, Strategy

STRATEGIES: list[Strategy] = ["gather", "as_completed", "wait"]


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the kind that the test asks for."""
    make: Callable[[], asyncio.AbstractEventLoop] = request.param
    loop = make()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


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
            listened = (k + len(cancel_at)) % 2 == 0  # a call that is listened to takes a way of its own
            counts["sweep: cancels"] += play(loop, scene, cancel_at, listened=listened).cancels
            counts["sweep: cancelled runs"] += 1


every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@every_strategy
@pytest.mark.parametrize("scenario", [*ANY_TIME, *VIRTUAL_TIME])
@pytest.mark.parametrize("loop", [VirtualLoop], indirect=True, ids=["lazy tasks"])
def test_a_cancel_at_any_step(
    loop: asyncio.AbstractEventLoop, scenario: Scenario, strategy: Strategy, counts: Counter[str], *, thorough: bool
) -> None:
    """However often and whenever the caller is cancelled, every rule of a clean end holds."""
    sweep(loop, scenario, strategy, counts, thorough=thorough)


@every_strategy
@pytest.mark.parametrize("scenario", [*ANY_TIME, *VIRTUAL_TIME])
@pytest.mark.parametrize("loop", [eager_loop], indirect=True, ids=["eager tasks"])
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_cancel_at_any_step_with_eager_tasks(
    loop: asyncio.AbstractEventLoop, scenario: Scenario, strategy: Strategy, counts: Counter[str], *, thorough: bool
) -> None:
    """The same where tasks start at once."""
    sweep(loop, scenario, strategy, counts, thorough=thorough)


@every_strategy
@pytest.mark.parametrize("scenario", ANY_TIME)
@pytest.mark.parametrize("loop", [uvloop_loop], indirect=True, ids=["uvloop"])
def test_a_cancel_at_any_step_on_uvloop(
    loop: asyncio.AbstractEventLoop, scenario: Scenario, strategy: Strategy, counts: Counter[str], *, thorough: bool
) -> None:
    """The same on uvloop, for what needs no virtual time."""
    sweep(loop, scenario, strategy, counts, thorough=thorough)
