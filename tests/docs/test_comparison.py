"""The page that compares us with others says what the probes of tests/benchmarks/comparison see."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "comparison.md").read_text("utf-8")
OURS = "aiosupervise"
TITLES = ("Retrying a call", "Running a batch", "Streaming a batch", "Supervising long-running tasks")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="a probe sends itself a SIGTERM"),
]


class Table(TypedDict):
    """What the script says of one table."""

    columns: list[str]
    rows: list[str]
    words: dict[str, dict[str, str]]
    "By library and row."


class Answers(TypedDict):
    """What the script says."""

    releases: dict[str, str]
    tables: dict[str, Table]


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Run all probes of the libraries that are installed, in a process of their own."""
    script = [sys.executable, str(ROOT / "tests/benchmarks/compare.py"), "--json"]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr, "a probe leaks warnings"
    found: Answers = json.loads(ended.stdout)
    return found


def cells(title: str) -> list[list[str]]:
    """The rows of the table below a heading, its head among them."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n```\n")[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [row for row in rows if set(row) != {"---"}]


def words(title: str, library: str) -> dict[str, str]:
    """What the page says of a library, by row; a link is the word that it shows."""
    head, *rows = cells(title)
    column = head.index(library)
    return {row[0]: re.sub(r"\[(.*)\]\(.*\)", r"\1", row[column]).replace("\u00a0", " ") for row in rows}


def anchors(page: Path) -> set[str]:
    """The anchors that MyST gives to the headings of a page."""
    headings = re.findall(r"^#{1,3} (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("title", TITLES)
def test_the_page_has_the_rows_and_columns_of_the_script(title: str, answers: Answers) -> None:
    """The page shows exactly the probed features and libraries."""
    head, *rows = cells(title)
    assert head[1:] == answers["tables"][title]["columns"]
    assert [row[0] for row in rows] == answers["tables"][title]["rows"]


@pytest.mark.parametrize("title", TITLES)
def test_the_page_says_of_us_what_the_probes_see(title: str, answers: Answers) -> None:
    """Each word about this library is what its probe answers now."""
    assert words(title, OURS) == answers["tables"][title]["words"][OURS]


@pytest.mark.parametrize("title", TITLES)
def test_the_page_says_of_others_what_the_probes_see(title: str, answers: Answers) -> None:
    """The same for every other library that is installed in the release that the page is about."""
    shown = {row[0]: row[1] for row in cells("The releases")[1:]}
    found = answers["tables"][title]["words"]
    current = [name for name in found if name != OURS and answers["releases"][name] == shown[name]]
    assert {name: words(title, name) for name in current} == {name: found[name] for name in current}


@pytest.mark.parametrize("title", TITLES)
def test_each_yes_of_ours_links_to_where_it_is_told(title: str) -> None:
    """A yes about this library is a link to a page, and to a heading of it."""
    _, *rows = cells(title)
    for cell in (row[1] for row in rows if "yes" in row[1]):
        link = re.fullmatch(r"\[yes\]\(([\w/-]+\.md)#([\w-]+)\)", cell)
        assert link, f"no link: {cell}"
        assert link[2] in anchors(DOCS / link[1]), f"no such heading: {cell}"


def test_the_page_knows_every_release_that_was_asked() -> None:
    """No column is about a release that the page does not name."""
    named = {row[0] for row in cells("The releases")[1:]}
    assert {name for title in TITLES for name in cells(title)[0][1:]} == named
    assert "not installed" not in PAGE
