"""The twins of the Erlang programs say what these have printed."""

import pytest

from .recorded import RECORDED, observed, programs, recorded
from .twin import Twin
from .twins import TWINS

SAME = [pytest.param(twin, id=name) for name, twin in TWINS.items() if twin.difference is None]
DIFFERENT = [pytest.param(twin, id=name) for name, twin in TWINS.items() if twin.difference is not None]


def test_each_program_has_a_twin_and_a_record() -> None:
    """No program runs in one language only."""
    assert sorted(TWINS) == programs() == sorted(file.stem for file in RECORDED.glob("*.txt"))


@pytest.mark.parametrize("twin", SAME)
def test_a_twin_says_what_its_program_printed(twin: Twin) -> None:
    """A rule of OTP's holds here: the same children do the same things, in the same order."""
    assert twin.said() == recorded(twin.name)


@pytest.mark.parametrize("twin", DIFFERENT)
def test_a_difference_is_one(twin: Twin) -> None:
    """What is said to differ does; the tables of the page have what exactly is said."""
    assert observed(twin.said()) != observed(recorded(twin.name))
