"""The choice of a run's feed, with or without groups and a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiosupervise._events.outcomes import Tally

from ._groups.feed import GroupedFeed
from .config import RunConfig
from .feed import Feed
from .first_error import FirstError
from .outlet import Outlet

if TYPE_CHECKING:
    from ._journal.session import Session


def feed_of(
    config: RunConfig[Any, Any], tally: Tally, error: FirstError, outlet: Outlet[Any, Any], session: Session | None
) -> Feed:
    """Create the feed of a run.

    Args:
        config: the configuration of the run.
        tally: the counts of the run.
        error: receives the errors of skipped items.
        outlet: receives the outcomes.
        session: the run's part of a journal; None without one.
    """
    if session is None:
        make = Feed if config.groups is None else GroupedFeed
        return make(config.source, tally, error, outlet)
    # SQLite is imported with the first journal.
    if config.groups is None:
        from ._journal.replay import ReplayingFeed  # noqa: PLC0415

        return ReplayingFeed(config.source, tally, error, outlet, session)
    from ._groups.replay import GroupedReplayingFeed  # noqa: PLC0415

    return GroupedReplayingFeed(config.source, tally, error, outlet, session)
