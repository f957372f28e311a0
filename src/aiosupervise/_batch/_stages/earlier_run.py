"""An earlier run, as the inputs of another one: which run can be a stage, and the source that reads it.

These are functions and not methods of `Run`, to keep them out of the public class.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from aiosupervise._batch.run import Run, RunState, status_of
from aiosupervise._events.outcomes import I

from .source import Stage, StageSource

T = TypeVar("T")

_BOTH_WAYS = """\
map_all(parse, map_all(fetch, urls))
or, to choose the inputs by yourself:
async with map_all(fetch, urls) as run:
    report = await map_all(parse, (page.value async for page in run if isinstance(page, Success)))"""


def stage_source(run: Run[T, I]) -> StageSource:
    """Return the source of the next stage, which reads a run that has not started.

    Raises:
        TypeError: if the run has started, is a stage of another run, or has arguments that belong to the last stage.
    """
    state, config = run._state, run._config  # noqa: SLF001
    if state is RunState.ENTERED:
        raise TypeError(
            f"a run that is given as inputs must not be entered, since the next run enters it; got {run!r}: write\n"
            f"{_BOTH_WAYS}"
        )
    if state is not RunState.NEW:
        raise TypeError(run._not_new())  # noqa: SLF001
    given = {"strategy": config.strategy.name != "gather", "stop_on": run._stop_on, "listen": config.listen}  # noqa: SLF001
    for name in [name for name, value in given.items() if value]:
        also = " and return_when belong" if name == "strategy" else " belongs"
        raise TypeError(
            f"{name}{also} to the last of several stages; the run {config.name}, an earlier one, has {name}: write it "
            f"in the map_all that reads the run"
        )
    return StageSource(run, _stage_of(run))


def own(run: Run[T, I], owner: str) -> None:
    """Mark a run as a stage of another run, which starts and reads it."""
    run._state, run._owner = RunState.OWNED, owner  # noqa: SLF001


def _stage_of(run: Run[T, I]) -> Stage:
    return Stage(run._config, run.tally, run._progress, run._begin_as_stage, partial(status_of, run))  # noqa: SLF001
