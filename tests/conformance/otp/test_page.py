"""docs/reference/otp.md is true: its tables are generated, and the tests that it names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import page
from .twins import TWINS

ROOT = Path(__file__).parents[3]
FOLDERS = ("tests/supervisor", "tests/conformance/otp")
CASES = 88


def rows(file: str, heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without their heads."""
    section = (ROOT / file).read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|.*\n\|---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for table in tables for row in table.splitlines()]


def words(cell: str) -> list[str]:
    """What a cell shows as code."""
    return re.findall(r"`([^`]+)`", cell)


PROGRAMS = rows("docs/reference/otp.md", "The same programs in both")
SUITE = rows("docs/reference/otp.md", "OTP's own test cases")
HELD = [row for row in SUITE if len(row) == 3]
NOT_HELD = [row for row in SUITE if len(row) == 2]
WITHOUT_PROGRAM = [row for row in PROGRAMS if len(row) == 2]
DESCRIBED = {row[0] for row in rows("docs/coming-from/otp.md", "What behaves differently")}


def functions() -> Iterator[str]:
    """Every test of these folders, as the page names it."""
    for folder in FOLDERS:
        for file in (ROOT / folder).glob("test_*.py"):
            for name in re.findall(r"^(?:async )?def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE):
                yield f"{file.name}::{name}"


def test_the_tables_are_what_both_sides_say() -> None:
    """They are what `nox -s otp -- --write` writes."""
    assert page.tables_of_page().splitlines() == page.tables().splitlines()


def test_each_program_has_a_row() -> None:
    """No program runs without being shown."""
    assert sorted(words(row[-1])[-1] for row in PROGRAMS if len(row) > 2) == sorted(TWINS)


def test_each_difference_that_is_described_is_shown_by_a_program_or_a_test() -> None:
    """And each that is shown is described."""
    shown = {twin.difference for twin in TWINS.values() if twin.difference is not None}
    assert len(DESCRIBED) > 20
    assert shown | {row[0] for row in WITHOUT_PROGRAM} == DESCRIBED


def test_each_case_of_otp_is_listed_once() -> None:
    """With the tests that hold it, or the reason why there is none."""
    listed = [case for row in SUITE for case in words(row[0])]
    assert len(listed) == len(set(listed)) == CASES
    text = page.PAGE.read_text("utf-8")
    assert f"with {CASES} cases" in text
    assert f"{len(HELD)} of them" in text
    assert f"{CASES - len(HELD)} cases test features that do not exist here" in text
    assert all(row[1] for row in NOT_HELD)


@pytest.mark.parametrize("row", [*HELD, *WITHOUT_PROGRAM], ids=lambda row: row[0].strip("`"))
def test_the_tests_that_a_row_names_exist(row: list[str]) -> None:
    """Each is a test function, or a program that a twin runs."""
    named = words(row[-1])
    assert named
    assert set(named) <= {*functions(), *TWINS}


@pytest.mark.parametrize("row", HELD, ids=lambda row: row[0].strip("`"))
def test_a_case_whose_outcome_differs_says_so(row: list[str]) -> None:
    """A case that only a difference holds is not said to be the same."""
    programs = [TWINS[name] for name in words(row[-1]) if name in TWINS]
    assert "differs: " in row[1] or all(twin.difference is None for twin in programs)
