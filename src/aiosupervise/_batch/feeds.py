"""Selects the type of a run's feed, which depends on its stages, groups and journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiosupervise._events.outcomes import Tally

from ._groups.feed import GroupedFeed
from ._stages.feed import GroupedStagedFeed, StagedFeed
from ._stages.source import StageSource
from .config import RunConfig
from .feed import Feed
from .first_error import FirstError
from .outlet import Outlet

if TYPE_CHECKING:
    from ._journal.session import Session


# The key is a pair: whether the run reads an earlier stage, and whether it has groups.
_FEEDS: dict[tuple[bool, bool], Callable[..., Feed]] = {
    (False, False): Feed,
    (False, True): GroupedFeed,
    (True, False): StagedFeed,
    (True, True): GroupedStagedFeed,
}


def feed_of(
    config: RunConfig[Any, Any], tally: Tally, error: FirstError, outlet: Outlet[Any, Any], session: Session | None
) -> Feed:
    """Create the feed of a run.

    Args:
        config: the configuration of the run.
        tally: the counts of the run.
        error: receives the errors of skipped items.
        outlet: receives the outcomes.
        session: the run's access to its journal; None without a journal.
    """
    kind = isinstance(config.source, StageSource), config.groups is not None
    if session is None:
        return _FEEDS[kind](config.source, tally, error, outlet)
    from ._stages.replay import REPLAYING_FEEDS  # noqa: PLC0415 - SQLite is imported with the first journal

    return REPLAYING_FEEDS[kind](config.source, tally, error, outlet, session)
