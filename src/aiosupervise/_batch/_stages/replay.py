"""The feeds of stages with a journal; a separate module, so that SQLite is imported only for a journal.

They use the keys of the first stage's inputs, because the values of a stage, and their order, may differ from run to
run.
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
    """The feed of a run with a journal that reads the outcomes of another run."""

    def __init__(
        self, source: Source[object], tally: Tally, error: FirstError, outlet: Outlet[Any, Any], session: Session
    ) -> None:
        session.key_of = partial(_key_of_first_input, session.key_of)
        super().__init__(source, tally, error, outlet, session)


class GroupedStagedReplayingFeed(StagedReplayingFeed, GroupedReplayingFeed):
    """The feed of a run with groups and a journal that reads the outcomes of another run."""


# The key is a pair: whether the run reads an earlier stage, and whether it has groups.
REPLAYING_FEEDS: dict[tuple[bool, bool], Callable[..., ReplayingFeed]] = {
    (False, False): ReplayingFeed,
    (False, True): GroupedReplayingFeed,
    (True, False): StagedReplayingFeed,
    (True, True): GroupedStagedReplayingFeed,
}


def _key_of_first_input(key_of: Callable[[Any, int], str], item: Success[Any, Any], _: int) -> str:
    return key_of(item.input, item.index)
