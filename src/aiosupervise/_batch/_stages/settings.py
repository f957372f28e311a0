"""The settings of a later stage: its journal and its groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from functools import partial
from typing import Any

from aiosupervise._batch._groups.settings import GroupSettings
from aiosupervise._batch._journal.journal import Journal
from aiosupervise._batch.jobs import MappedJobs
from aiosupervise._batch.source import Source
from aiosupervise._events.outcomes import Success

from .source import StageSource, stages_before


def inputs_in_memory(source: Source[Any]) -> Collection[Any]:
    """Return the inputs for which a journal needs keys: those of the first stage, if they are in memory.

    Raises:
        TypeError: if the first stage has jobs instead of inputs.
    """
    stages = stages_before(source)
    if not stages:
        return source.items_in_memory()
    if not isinstance(stages[0].config.jobs, MappedJobs):
        raise TypeError(
            "a journal recognizes the inputs of the first stage, and the jobs of run_all have none: write map_all for "
            "the first stage"
        )
    return stages[0].config.source.items_in_memory()


def check_journals(journal: Journal | None, name: str, source: StageSource) -> None:
    """Check that a stage does not conflict with the journals of the stages before it.

    Raises:
        ValueError: for two stages with the same name, whose results a journal cannot distinguish, and for two journals
        with the same file.
    """
    if journal is None:
        return
    for stage in stages_before(source):
        other = stage.config.journal
        if other is None or other.path != journal.path:
            continue
        if other is not journal:
            raise ValueError(
                f"stages that use the file {journal.path} must share one Journal, since a file is opened once: write "
                f"journal = Journal(path), and journal=journal for each of them"
            )
        if stage.config.name == name:
            raise ValueError(
                f"a journal finds the results of a stage by its name, and two stages have the name {name}: write name= "
                f"for one of them"
            )


def group_by_value(groups: GroupSettings | None) -> GroupSettings | None:
    """Return group settings with a `group_by` that receives the values of a stage's items."""
    return groups and GroupSettings(partial(_group_of_value, groups.group_by), groups.limit)


def _group_of_value(group_by: Callable[[Any], Hashable], item: Success[Any, Any]) -> Hashable:
    return group_by(item.value)
