"""The page of the simulations shows the figures in results.txt, as tables and as bar charts."""

import re
import sys
from pathlib import Path

import pytest

from storm import bars

FOLDER = Path(bars.__file__).parent
PAGE = FOLDER.with_suffix(".md").read_text("utf-8")
TABLES = bars.read(bars.RESULTS.read_text("utf-8"))
COLUMNS = {"attempts per job": "per job", "recovered after (seconds)": "recovered after"}


def shown() -> list[dict[str, str]]:
    """The rows of the page's tables, by the headings of their columns."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        found += [dict(zip(head, row, strict=True)) for row in rows]
    return found


def agrees(cell: str, figure: bars.Cell) -> bool:
    """Whether a cell of the page is the median, rounded to the digits that it has."""
    found = bars.Cell.parse(cell)
    if figure.median == "never":
        return found.median == "never"
    digits = len(found.median.partition(".")[2])
    return float(found.median) == pytest.approx(float(figure.median), abs=0.5 * 10**-digits + 1e-9)


@pytest.mark.parametrize("row", shown(), ids=lambda row: " ".join(row.values())[:40])
def test_a_row_of_the_page_is_in_the_results(row: dict[str, str]) -> None:
    """The figures of each row are the medians of one scenario, rounded."""
    scenarios = [one for rows in TABLES.values() for one in rows]
    assert any(
        one.labels == {name: cell for name, cell in row.items() if COLUMNS.get(name, name) not in one.figures}
        and all(agrees(row[name], one.figures[COLUMNS.get(name, name)]) for name in row.keys() - one.labels.keys())
        for one in scenarios
    )


def test_the_bar_charts_show_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those that the command draws, and the page shows each of them."""
    monkeypatch.setattr(sys, "argv", ["bars", str(tmp_path)])
    bars.main()
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == sorted(path.name for path in FOLDER.glob("*-bars.svg"))
    for path in drawn:
        assert path.read_bytes() == (FOLDER / path.name).read_bytes()
        assert f"(storm/{path.name})" in PAGE
