"""The settings that split a run into groups, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from aiosupervise._batch.jobs import discard
from aiosupervise._batch.overload import Adaptive, Overload
from aiosupervise._policy.checks import check_count, error_text, is_async_callable, kind_of, name_of, safe_repr
from aiosupervise._policy.record import record


@record
class GroupSettings:
    """The settings that split a run into groups.

    Attributes:
        group_by: returns the group of an input.
        limit: the number of concurrent jobs per group, or a function that returns it for a group; None to apply only
        the limit of the run.
    """

    group_by: Callable[[Any], Hashable]
    limit: int | Callable[[Any], int | None] | None

    def limit_of(self, group: Hashable) -> int | None:
        """Return the limit of a group; None if only the limit of the run applies.

        Raises:
            TypeError, ValueError: if the user's function raises an error, or returns an invalid limit.
        """
        if not callable(self.limit):
            return self.limit
        try:
            limit = self.limit(group)
        except Exception as error:
            raise TypeError(f"limit_per_group raised for a group: {error_text(error)}") from error
        discard(limit)
        check_count("the result of limit_per_group", limit, least=1)
        return limit


def checked_groups(
    group_by: object, limit_per_group: object, limit: object, overload: Overload | None, engine: object
) -> GroupSettings | None:
    """Return the group settings of a run; None for a run without groups.

    Raises:
        TypeError, ValueError: for invalid settings, and for arguments that are not allowed in a run with groups.
    """
    if group_by is None:
        if limit_per_group is not None:
            raise TypeError(
                "limit_per_group is for a run with groups, and this one has none: write group_by=host_of beside it, "
                "or limit= for the whole run"
            )
        return None
    _check_functions(group_by, limit_per_group)
    if engine is not None:
        raise TypeError(
            "a run with group_by executes its jobs in this process, so it cannot have an engine: "
            "leave out group_by or engine"
        )
    if isinstance(limit, Adaptive):
        raise TypeError(
            "limit must be an integer or None in a run with group_by, since one slow group would shrink an Adaptive "
            "limit for all groups; got Adaptive: write limit=100, and limit_per_group= for each group"
        )
    if overload is not None and overload.budget is not None:
        raise TypeError(
            "overload must not have a budget in a run with group_by, since each group has its own budget: write "
            "Overload(...) without budget="
        )
    return GroupSettings(group_by, limit_per_group)  # type: ignore[arg-type]  # checked


def _check_functions(group_by: object, limit_per_group: object) -> None:
    rule = "group_by must be a function of an input that returns its group"
    if not callable(group_by):
        raise TypeError(f"{rule}, such as the host of a URL, or None for no groups; got {safe_repr(group_by)}")
    if is_async_callable(group_by):
        raise TypeError(f"{rule}; {name_of(group_by)} is async: write a plain function")
    if not callable(limit_per_group):
        check_count("limit_per_group", limit_per_group, least=1, none="no limit, or a function of the group")
    elif is_async_callable(limit_per_group):
        rule = "limit_per_group must be an integer or a function of the group that returns one"
        raise TypeError(f"{rule}; {name_of(limit_per_group)} is async: write a plain function")


def invalid_group(value: object, index: int, error: Exception | None) -> TypeError:
    """Create the error for a return value of `group_by` that is unhashable or a coroutine.

    Args:
        value: the return value.
        index: the index of the input.
        error: the error raised by hashing it; None if hashing was not the problem.
    """
    discard(value)
    rule = "group_by must return something hashable, such as a str"
    why = "write a plain function" if error is None else error_text(error)
    return TypeError(f"{rule}; for input {index} it returned {kind_of(value)}: {why}")
