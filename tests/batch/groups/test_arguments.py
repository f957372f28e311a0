"""Arguments of a run with groups that cannot be, and what the errors say."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from aiosupervise import Adaptive, Budget, Overload, Pending, Success, map_all

pytestmark = pytest.mark.looptime


async def fetch(page: Any) -> Any:
    """Fetch a page."""
    await asyncio.sleep(1)
    return page


async def host_of(page: Any) -> Any:
    """Return a group, but as a coroutine."""
    return page


class Unhashable:
    """Raises when it is hashed."""

    def __hash__(self) -> int:
        raise LookupError("no hash")


GROUP_BY = "group_by must be a function of an input that returns its group"
LIMIT = "limit_per_group must be an integer of at least 1, or None for no limit, or a function of the group"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"limit_per_group": 4},
            TypeError,
            (
                "limit_per_group is for a run with groups, and this one has none: write group_by=host_of beside it, "
                "or limit= for the whole run"
            ),
        ),
        ({"group_by": 4}, TypeError, f"{GROUP_BY}, such as the host of a URL, or None for no groups; got 4"),
        ({"group_by": host_of}, TypeError, f"{GROUP_BY}; host_of is async: write a plain function"),
        (
            {"group_by": len, "limit_per_group": host_of},
            TypeError,
            (
                "limit_per_group must be an integer or a function of the group that returns one; host_of is async: "
                "write a plain function"
            ),
        ),
        ({"group_by": len, "limit_per_group": 0}, ValueError, f"{LIMIT}; got 0"),
        ({"group_by": len, "limit_per_group": "4"}, TypeError, f"{LIMIT}; got '4'"),
        (
            {"group_by": len, "limit": Adaptive()},
            TypeError,
            (
                "limit must be an integer or None in a run with group_by, since one slow group would shrink an "
                "Adaptive limit for all groups; got Adaptive: write limit=100, and limit_per_group= for each group"
            ),
        ),
        (
            {"group_by": len, "overload": Overload(Budget())},
            TypeError,
            (
                "overload must not have a budget in a run with group_by, since each group has its own budget: write "
                "Overload(...) without budget="
            ),
        ),
        (
            {"group_by": len, "engine": object()},
            TypeError,
            (
                "a run with group_by executes its jobs in this process, so it cannot have an engine: leave out "
                "group_by or engine"
            ),
        ),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """They are refused at once, and the error says what to write."""
    with pytest.raises(error, match=f"^{re.escape(words)}$"):
        map_all(fetch, ["a"], **options)


def limit_of(_: Any) -> Any:
    """Raise, as a function of the user may."""
    raise LookupError("unknown")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"group_by": lambda page: [page]}, TypeError, "hashable, such as a str; for input 1 it returned.* list"),
        ({"group_by": lambda _: Unhashable()}, TypeError, "for input 1 it returned.*Unhashable: LookupError: no hash"),
        ({"group_by": lambda page: host_of(page=page)}, TypeError, "for input 1 it returned.*coroutine: write a plain"),
        ({"group_by": lambda page: page[5]}, IndexError, "string index out of range"),
        ({"limit_per_group": lambda _: 0}, ValueError, "the result of limit_per_group must be an integer.*got 0"),
        ({"limit_per_group": lambda _: True}, TypeError, "the result of limit_per_group must be.*got True"),
        ({"limit_per_group": lambda group: host_of(page=group)}, TypeError, "the result of limit_per_group must be"),
        ({"limit_per_group": limit_of}, TypeError, "limit_per_group raised for a group: LookupError: unknown"),
    ],
)
async def test_functions_that_fail(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """It is an error of the source: running jobs finish, the input is pending, and the error is raised once."""
    good: dict[str, Callable[[Any], Any]] = {"group_by": lambda page: page, "limit_per_group": lambda _: 1}
    made = 0

    def only_later(name: str) -> Callable[[Any], Any]:
        def function(value: Any) -> Any:
            nonlocal made
            made += name in options
            return options[name](value) if name in options and made > 1 else good[name](value)

        return function

    run = map_all(
        fetch, ["a", "b", "c"], group_by=only_later("group_by"), limit_per_group=only_later("limit_per_group")
    )
    with pytest.raises(error, match=words):
        await run
    assert [type(outcome) for outcome in run.report] == [Success, Pending, Pending]
    assert run.report.succeeded[0].value == "a"
