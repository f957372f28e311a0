"""Draw how the batches of results.txt end, as bar charts: `python -m storm.bars FOLDER`, in docs/explanation.

`nox -s storm -- --seeds 10` prints the text that results.txt keeps.
"""

import html
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("results.txt")

# Each picture: the first word of its table's title, and how many rows at the beginning are left out.
PICTURES: Final[Mapping[str, tuple[str, int]]] = {
    "limits-bars": ("Concurrency", 0),
    "outage-bars": ("Outage", 0),
    "throttled-bars": ("429", 0),
    "bad-inputs-bars": ("Inputs", 16),  # up to 10 %, all other inputs succeed: one row is like the other
    "brownout-bars": ("A", 0),
    "contention-bars": ("Contention", 0),
}
OUTCOMES: Final = ("done", "failed", "pending")

# Pixels.
LABELS: Final = 215
BAR: Final = 250
COLUMN: Final = 95
ROW: Final = 22
TOP: Final = 54
WIDTH: Final = LABELS + BAR + 2 * COLUMN

STYLE: Final = """\
svg { background: #fff; --text: #333; --faint: #ddd; --done: #3b8e5a; --failed: #c8453b; --pending: #e0a63a; }
@media (prefers-color-scheme: dark) {
  svg { background: #131416; --text: #ccc; --faint: #3a3b3e; --done: #4fae73; --failed: #e0655b; --pending: #c8963a; }
}
text { font: 13px system-ui, sans-serif; fill: var(--text); }
.end { text-anchor: end; }
.done { fill: var(--done); }
.failed { fill: var(--failed); }
.pending { fill: var(--pending); }
line { stroke: var(--faint); }
.range { stroke: var(--text); stroke-width: 2; }"""


@dataclass(frozen=True, slots=True)
class Cell:
    """The median of a figure over the seeds, and its range."""

    median: str
    low: str
    high: str

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read a cell such as `1871 (1498-1965)`, or a lone number."""
        median, *ends = re.findall(r"[^\s()-]+", text)
        return cls(median, *(ends or [median, median]))


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario: its labels and its figures, by the headings of their columns."""

    labels: Mapping[str, str]
    figures: Mapping[str, Cell]


def read(text: str) -> dict[str, list[Row]]:
    """Return the rows of each table by the table's title."""
    tables: dict[str, list[Row]] = {}
    for block in text.strip().split("\n\n")[1:]:
        title, head, *lines = block.splitlines()
        columns = re.split(r" {2,}", head.strip())
        rows = [dict(zip(columns, re.split(r" {2,}", line.strip()), strict=True)) for line in lines]
        first = next(n for n, column in enumerate(columns) if column in {"done", "recovered after"})
        labels, figures = columns[:first], columns[first:]
        tables[title] = [
            Row({name: row[name] for name in labels}, {name: Cell.parse(row[name]) for name in figures}) for row in rows
        ]
    return tables


def picture(title: str, rows: Sequence[Row]) -> str:
    """Return a bar chart of the outcomes of a table's rows as SVG."""
    height = TOP + ROW * len(rows) + 8
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{html.escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            *_head(list(rows[0].labels)),
            *(line for n, row in enumerate(rows) for line in _row(row, rows[n - 1] if n else None, TOP + ROW * n)),
            "</svg>\n",
        ]
    )


def _head(labels: Sequence[str]) -> Iterator[str]:
    for n, outcome in enumerate(OUTCOMES):
        x = LABELS + 85 * n
        yield f'<rect class="{outcome}" x="{x}" y="8" width="12" height="12"/>'
        yield f'<text x="{x + 18}" y="19">{outcome}</text>'
    yield f'<text x="4" y="40">{", ".join(labels[:-1])}</text>'
    yield _text(LABELS, 40, labels[-1])
    for n, column in enumerate(("attempts per job", "seconds")):
        yield _text(LABELS + BAR + COLUMN * (n + 1) + 5 * n, 40, column)


def _row(row: Row, before: Row | None, y: int) -> Iterator[str]:
    middle = y + ROW // 2
    *group, last = row.labels.values()
    if before is None or group != [*before.labels.values()][:-1]:
        yield f'<line x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="4" y="{middle + 5}">{html.escape(", ".join(group))}</text>'
    yield _text(LABELS, middle + 5, html.escape(last))
    yield from _bar(row, y)
    for n, column in enumerate(("per job", "seconds")):
        yield _text(LABELS + BAR + COLUMN * (n + 1) + 5 * n, middle + 5, row.figures[column].median)


def _text(x: int, y: int, text: str) -> str:
    return f'<text class="end" x="{x - 8}" y="{y}">{text}</text>'


def _bar(row: Row, y: int) -> Iterator[str]:
    """Yield the stacked bar, and a line for the range of the jobs that were done."""
    counts = [float(row.figures[outcome].median) for outcome in OUTCOMES]
    scale, x = BAR / sum(counts), float(LABELS)
    for outcome, count in zip(OUTCOMES, counts, strict=True):
        width = count * scale
        yield f'<rect class="{outcome}" x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{ROW - 8}"/>'
        x += width
    done, middle = row.figures["done"], y + ROW // 2
    low, high = (LABELS + BAR * float(end) / sum(counts) for end in (done.low, done.high))
    if high - low >= 1:
        yield f'<line class="range" x1="{low:.1f}" x2="{min(high, LABELS + BAR):.1f}" y1="{middle}" y2="{middle}"/>'


def main() -> None:
    """Draw all pictures into a folder."""
    tables = read(RESULTS.read_text("utf-8"))
    for name, (word, skipped) in PICTURES.items():
        (title,) = (title for title in tables if re.match(rf"{word}\b", title))
        path = Path(sys.argv[1], f"{name}.svg")
        path.write_text(picture(title, tables[title][skipped:]), "utf-8", newline="\n")
        print(path)


if __name__ == "__main__":
    main()
