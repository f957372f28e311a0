"""Which feed a run has: with a journal or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiosupervise._events.outcomes import Tally

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
        return Feed(config.source, tally, error, outlet)
    from ._journal.replay import ReplayingFeed  # noqa: PLC0415 - as in `journal`

    return ReplayingFeed(config.source, tally, error, outlet, session)
