"""How error messages show what was given."""

import pytest

from aiosupervise._policy.checks import kind_of


@pytest.mark.parametrize(
    ("value", "shown"),
    [(5, "5"), (2.5, "2.5"), (True, "True"), (None, "None"), ("secret", "a value of type str")],
)
def test_an_input_is_shown_by_its_type_unless_it_is_a_number(value: object, shown: str) -> None:
    """Any other input may be secret."""
    assert kind_of(value) == shown
