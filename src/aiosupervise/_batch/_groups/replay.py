"""The feed of a run with groups and a journal, in a separate module: SQLite is imported with the first journal."""

from __future__ import annotations

from aiosupervise._batch._journal.replay import ReplayingFeed

from .feed import GroupedFeed


class GroupedReplayingFeed(ReplayingFeed, GroupedFeed):
    """Feeds one run that has groups and a journal; inputs with a stored result belong to no group."""
