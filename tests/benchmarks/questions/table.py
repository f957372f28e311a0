"""A table of results, as plain text and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised for a row, and whether this run kept it."""

    promise: str
    met: bool

    def cells(self) -> Cells:
        """The last two columns."""
        return self.promise, "met" if self.met else "MISSED"


@dataclass(slots=True)
class Table:
    """A question, how it was measured, and a row for each contender."""

    question: str
    method: str
    columns: Sequence[str]
    rows: list[Cells] = field(default_factory=list)

    def add(self, name: str, *cells: str, target: Target | None = None) -> None:
        """Append the row of the contender called `name`."""
        self.rows.append((name, *cells, *(target.cells() if target else ("", ""))))

    def text(self) -> str:
        """The whole table: names to the left, numbers to the right, the target last."""
        lines = [("", *self.columns, "target", ""), *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = "\n".join(self._line(cells, widths) for cells in lines)
        return f"{self.question}\n  {self.method}\n\n{body}"

    def markdown(self) -> str:
        """The same for a page: the question, the method, and the table; without the targets if there are none."""
        lines = [("", *self.columns, "target", ""), *self.rows]
        if not any(row[-2] for row in self.rows):
            lines = [line[:-2] for line in lines]
        rule = ["---", *["---:"] * len(self.columns), *["---"] * (len(lines[0]) - 1 - len(self.columns))]
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))
        return f"{_sentence(self.question)}\n{_sentence(self.method)}\n\n{body}\n"

    def numbers(self, column: str) -> dict[str, float]:
        """What a column says of each row; rows where it says no number are left out."""
        place = list(self.columns).index(column) + 1
        cells = {row[0]: row[place].replace(",", "") for row in self.rows}
        return {name: float(cell) for name, cell in cells.items() if cell.replace(".", "", 1).isdigit()}

    def _line(self, cells: Cells, widths: list[int]) -> str:
        """One line; the first column and the last two hold words, the others numbers."""
        words = {0, len(cells) - 2, len(cells) - 1}
        padded = (
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return ("  " + "  ".join(padded)).rstrip()


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def times(value: float) -> str:
    """A ratio, with as many digits as it deserves."""
    return f"{value:.2f} x" if value < 10 else f"{value:.0f} x"


def count(value: float) -> str:
    """A number that is usually whole: `0`, `71`, `18.5`."""
    return f"{value:.1f}".removesuffix(".0")
