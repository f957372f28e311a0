"""The feeds of stages with a journal; a separate module, so that SQLite is imported only for a journal.

Their keys are those of the first stage's inputs. The order of the values changes from run to run, and so may the values
themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aiosupervise._batch._groups.replay import GroupedReplayingFeed
from aiosupervise._batch._journal.replay import ReplayingFeed
from aiosupervise._batch._journal.session import Session
from aiosupervise._batch.first_error import FirstError
from aiosupervise._batch.outlet import Outlet
from aiosupervise._batch.source import Source
from aiosupervise._events.outcomes import Success, Tally

from .feed import StagedFeed


class StagedReplayingFeed(StagedFeed, ReplayingFeed):
    """The feed of one run that has a journal with the outcomes of another."""

    def __init__(
        self, source: Source[object], tally: Tally, error: FirstError, outlet: Outlet[Any, Any], session: Session
    ) -> None:
        session.key_of = partial(_key_of_first_input, session.key_of)
        super().__init__(source, tally, error, outlet, session)


class GroupedStagedReplayingFeed(StagedReplayingFeed, GroupedReplayingFeed):
    """The feed of one run that has groups and a journal with the outcomes of another."""


# The keys: whether the run is a later stage, and whether it has groups.
REPLAYING_FEEDS: dict[tuple[bool, bool], Callable[..., ReplayingFeed]] = {
    (False, False): ReplayingFeed,
    (False, True): GroupedReplayingFeed,
    (True, False): StagedReplayingFeed,
    (True, True): GroupedStagedReplayingFeed,
}


def _key_of_first_input(key_of: Callable[[Any, int], str], item: Success[Any, Any], _: int) -> str:
    return key_of(item.input, item.index)
