"""The tables of docs/reference/otp.md: what the programs have printed, and what their twins say."""

from collections.abc import Iterator
from pathlib import Path

from .recorded import RELEASE, observed, recorded
from .twin import Twin
from .twins import TWINS, differences, ends, groups, restarts

PAGE = Path(__file__).parents[3] / "docs/reference/otp.md"
BEGIN = "% The tables are written by `nox -s otp -- --write`.\n"
END = "% Up to here.\n"

RULES = {
    "Restart types": restarts,
    "Strategies": groups,
    "Start, shutdown and trees": ends,
}


def tables() -> str:
    """Return the tables, as Markdown."""
    return "\n".join([*map(_rules, RULES), _differences()])


def _rules(title: str) -> str:
    twins = [twin for twin in TWINS.values() if twin.play.__module__ == RULES[title].__name__]
    rows = [[twin.title, observed(recorded(twin.name)), f"`{twin.name}`"] for twin in twins]
    return f"### {title}\n\n" + _table(["rule", "in OTP and here", "program"], rows)


def _differences() -> str:
    rows = [_difference(twin) for twin in TWINS.values() if twin.play.__module__ == differences.__name__]
    release = RELEASE.read_text("utf-8").strip()
    return "### Differences\n\n" + _table(["what", f"OTP {release}", "aiosupervise", "program"], rows)


def _difference(twin: Twin) -> list[str]:
    return [twin.title, observed(recorded(twin.name)), observed(twin.said()), f"`{twin.name}`"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "".join(_lines([head, ["---"] * len(head), *rows])).replace("| --- |", "|---|").replace(" --- |", "---|")


def _lines(rows: list[list[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def tables_of_page() -> str:
    """Return the tables that the page has now."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


def write() -> None:
    """Put the tables into the page."""
    before, begin, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"{PAGE} has lost one of its marks"
    assert end, f"{PAGE} has lost one of its marks"
    PAGE.write_text(f"{before}{begin}\n{tables()}\n{end}{after}", "utf-8", newline="\n")
