"""How error messages show what was given."""

from typing import Any

import pytest

from aiosupervise import Policy
from aiosupervise._policy.checks import kind_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5, "5"), (2.5, "2.5"), (True, "True"), (None, "None"), ("secret", "a value of type str")],
)
def test_an_input_is_shown_by_its_type_unless_it_is_a_number(value: object, shown: str) -> None:
    """Any other input may be secret."""
    assert kind_of(value) == shown


async def jittered(_: int, __: Exception) -> float:
    """A backoff that is async, which none may be."""
    return 0.0


def marked(_: Exception) -> bool:
    """Return a plain function that returns an awaitable, with the mark that older code uses for this."""
    return True


vars(marked)["_is_coroutine"] = object()


@pytest.mark.parametrize(
    ("keywords", "shown"),
    [
        ({"gate": 5}, "got 5"),
        ({"backoff": jittered}, "jittered is async"),
        ({"irrecoverable": marked}, "marked is async: make it a plain def"),
    ],
)
def test_the_error_about_a_keyword_shows_what_was_given(keywords: Any, shown: str) -> None:
    """A value by its repr, a function by its name."""
    with pytest.raises(TypeError, match=shown):
        Policy(retry_on=OSError, **keywords)
