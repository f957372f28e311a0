"""A table of results, as plain text."""

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

    def _line(self, cells: Cells, widths: list[int]) -> str:
        """One line; the first column and the last two hold words, the others numbers."""
        words = {0, len(cells) - 2, len(cells) - 1}
        padded = (
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return ("  " + "  ".join(padded)).rstrip()


def times(value: float) -> str:
    """A ratio, with as many digits as it deserves."""
    return f"{value:.2f} x" if value < 10 else f"{value:.0f} x"


def count(value: float) -> str:
    """A number that is usually whole: `0`, `71`, `18.5`."""
    return f"{value:.1f}".removesuffix(".0")
