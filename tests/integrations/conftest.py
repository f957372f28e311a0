"""Shared by the tests of the bars: what a terminal shows of what was written to it."""

import io
import re
from collections.abc import Callable

import pytest

_CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def seen(written: str) -> list[str]:
    """Give the lines that a terminal shows, of endless height and width; it knows the codes that the bars use."""
    lines, row, column = [""], 0, 0
    for code in _CODE.finditer(written):
        _, number, letter, back, down, text = code.groups()
        if letter == "A":
            row -= int(number or 1)
        elif letter == "K":
            lines[row] = ""
        elif back or down:
            row, column = (row + 1 if down else row), 0
        elif text:
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + text + line[column + len(text) :], column + len(text)
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def screen() -> Callable[[str], list[str]]:
    """What a terminal shows."""
    return seen


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def terminal() -> Terminal:
    """A file that says that it is a terminal."""
    return Terminal()
