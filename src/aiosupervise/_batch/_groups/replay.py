"""The feed of a run with groups and a journal; a separate module, so that SQLite is imported only for a journal."""

from __future__ import annotations

from aiosupervise._batch._journal.replay import ReplayingFeed

from .feed import GroupedFeed


class GroupedReplayingFeed(ReplayingFeed, GroupedFeed):
    """The feed of one run that has groups and a journal; inputs with a stored result belong to no group."""
