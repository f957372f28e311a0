"""The table of OTP's semantics in the documentation names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests/service"
PAGE = (ROOT / "docs/explanation/supervisors.md").read_text("utf-8")
ROWS = PAGE.partition("## OTP's semantics and ours")[2]


def test_each_row_of_the_table_names_a_test_that_exists() -> None:
    """What the page says of OTP and of ours is tested, row by row."""
    rows = [row for row in ROWS.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.search(r"`(test_\w+\.py)::(test_\w+)` \|$", row)
        assert named, row
        assert f"def {named[2]}(" in (TESTS / named[1]).read_text("utf-8"), row
