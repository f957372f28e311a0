"""The tables, as the page docs/comparison.md shows them."""

import gc
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from .answers import Answer, Feature, Library, ask
from .batches import BATCHES
from .calls import CALLS
from .keepers import KEEPERS
from .releases import Release, installed, release
from .retriers import RETRIERS
from .runners import RUNNERS, STREAMS
from .services import SERVICES

PAGE = Path(__file__).parents[3] / "docs" / "comparison.md"
BEGIN = "% What follows is written by `python tests/benchmarks/compare.py --write`.\n"
END = "% Up to here.\n"
OURS = "aiosupervise"
NAMES = tuple(dict.fromkeys(library.name for library in (*RETRIERS, *RUNNERS)))


@dataclass(frozen=True, slots=True)
class Table:
    """Features against libraries, and what was seen of each that is installed."""

    title: str
    features: Sequence[Feature[Any]]
    libraries: Sequence[type[Library]]
    answers: dict[tuple[str, str], Answer]
    "By feature and library."

    def markdown(self) -> str:
        """The table, and below it what was seen."""
        head = ["", *[library.name for library in self.libraries]]
        rows = [[feature.title, *self._cells(feature)] for feature in self.features]
        seen = "\n".join(line for feature in self.features for line in self._seen(feature))
        return f"## {self.title}\n\n{grid(head, rows)}\n\n:::{{dropdown}} Details of the answers\n{seen}\n:::\n"

    def _cells(self, feature: Feature[Any]) -> Iterator[str]:
        for library in self.libraries:
            seen = self.answers.get((feature.title, library.name))
            word = seen.word if seen else "not installed"
            yield f"[{word}]({feature.link})" if library.name == OURS and word == "yes" else word.replace(" ", "\u00a0")

    def _seen(self, feature: Feature[Any]) -> Iterator[str]:
        yield f"- {feature.title}"
        names = [library.name for library in self.libraries if (feature.title, library.name) in self.answers]
        answers = {name: self.answers[feature.title, name] for name in names}
        together = sorted(names, key=lambda name: (order(answers, name), names.index(name)))
        for _, same in groupby(together, key=lambda name: answers[name]):
            group = list(same)
            yield f"  - {', '.join(group)}: {answers[group[0]].word}, {answers[group[0]].seen}"


def order(answers: dict[str, Answer], name: str) -> int:
    """Where the first library with the same answer stands."""
    return list(answers.values()).index(answers[name])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of MyST, which furo lets scroll by itself where it is too wide."""
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"```{{table}}\n:align: left\n\n{body}\n```"


_FOUND: dict[tuple[str, str], Answer] = {}


def found(feature: Feature[Any], kind: type[Library]) -> Answer:
    """Ask a library about a feature, once."""
    key = feature.title, kind.name
    if key not in _FOUND:
        _FOUND[key] = ask(feature, kind())
    return _FOUND[key]


def table(
    title: str, features: Sequence[Feature[Any]], libraries: Sequence[type[Library]], asked: Sequence[str]
) -> Table:
    """Ask each library that is installed about each feature."""
    present = [kind for kind in libraries if installed(kind.package) and kind.name in asked]
    for kind in present:
        kind()  # imports it
    gc.freeze()  # each probe collects garbage: spare the collector what is there already
    answers = {(feature.title, kind.name): found(feature, kind) for feature in features for kind in present}
    return Table(title, features, libraries, answers)


def tables(asked: Sequence[str] = ()) -> list[Table]:
    """Run all probes, or those of some libraries."""
    asked = asked or NAMES
    return [
        table("Retrying a call", CALLS, RETRIERS, asked),
        table("Running a batch", BATCHES, [kind for kind in RUNNERS if kind not in STREAMS], asked),
        table("Streaming a batch", BATCHES, [RUNNERS[0], *STREAMS], asked),
        table("Supervising long-running tasks", SERVICES, KEEPERS, asked),
    ]


def releases() -> dict[str, Release]:
    """Every library that is installed, once."""
    present = {library.name: library for library in (*RUNNERS, *RETRIERS) if installed(library.package)}
    return {name: release(present[name]()) for name in NAMES if name in present}


def releases_markdown(all_of_them: dict[str, Release]) -> str:
    """What was checked."""
    head = ["", "release", "Python", "needs", "`py.typed`", "under trio"]
    rows = [[name, one.version, one.python, one.needs, one.typed, one.trio] for name, one in all_of_them.items()]
    under = (
        f"On CPython {platform.python_version()}, {platform.system()}. "
        "The dependencies of a release depend on the Python version."
    )
    return f"## The releases\n\n{under}\n\n{grid(head, rows)}\n"


def markdown(all_tables: Sequence[Table]) -> str:
    """All that the page has from here."""
    return "\n".join([*[one.markdown() for one in all_tables], releases_markdown(releases())])


def write(text: str) -> None:
    """Put it into the page, between its two marks."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE} lacks the two lines between which the tables stand"
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", "utf-8")


def as_data(all_tables: Sequence[Table]) -> dict[str, Any]:
    """The words alone, for a test to read."""
    return {
        "releases": {
            library.name: version(library.package) for library in (*RETRIERS, *RUNNERS) if installed(library.package)
        },
        "tables": {
            one.title: {
                "columns": [library.name for library in one.libraries],
                "rows": [feature.title for feature in one.features],
                "words": {
                    name: {row: answer.word for (row, asked), answer in one.answers.items() if asked == name}
                    for _, name in one.answers
                },
            }
            for one in all_tables
        },
    }
