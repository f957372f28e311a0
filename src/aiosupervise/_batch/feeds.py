"""Which feed a run has: with groups and a journal, or without."""

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
    """Make the feed of a run.

    Args:
        config: the configuration of the run.
        tally: its counts.
        error: takes the errors of items that are skipped.
        outlet: where the outcomes go.
        session: its part of a journal; None without one.

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
