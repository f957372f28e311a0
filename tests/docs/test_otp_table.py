"""The tables of OTP's semantics in the documentation name tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests/supervisor"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables below a heading, without their heads."""
    section = (ROOT / page).read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^\|.*\n\|---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for table in tables for row in table.splitlines()]


RULES = rows("docs/explanation/supervisors.md", "OTP's semantics and ours")
DIFFERENCES = rows("docs/coming-from/otp.md", "What behaves differently")


def test_each_row_of_the_tables_names_a_test_that_exists() -> None:
    """What the page says of OTP and of ours is tested, row by row."""
    assert len(RULES) > 20
    for row in RULES:
        named = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", row[-1])
        assert named, row
        assert f"def {named[2]}(" in (TESTS / named[1]).read_text("utf-8"), row


def test_each_difference_has_a_row_with_its_test() -> None:
    """The differences on the other page are among the tested rules, in the same order."""
    listed = [row[0] for row in DIFFERENCES]
    assert len(listed) > 10
    assert [row[0] for row in RULES if len(row) == 2] == listed
