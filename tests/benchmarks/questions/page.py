"""What a run of the benchmark leaves for the documentation: its tables as Markdown, and pictures of three of them."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from .machine import describe
from .scale import SIZES
from .table import Table

OURS, THEIRS = "#1f5fa8", "#9aa3ad"
LINES = ("#b5651d", "#2e8b57", "#8e44ad", "#c0392b", "#7f8c8d", "#c09a1c", "#178a9e")


class Page:
    """A folder into which the results go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._write("machine.md", f"```text\n{describe()}\n```\n")

    def add(self, name: str, table: Table) -> None:
        """Write the table of a question, and draw it if it has a picture."""
        self._write(f"{name}.md", table.markdown())
        if name in _PICTURES:
            _save(self._folder / f"{name}.svg", _PICTURES[name], table)

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text, "utf-8")


def _save(path: Path, draw: Callable[[Any, Table], None], table: Table) -> None:
    pyplot: Any = import_module("matplotlib.pyplot")
    # The same figures make the same file: no random ids, and no date.
    with pyplot.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        draw(axes, table)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _bars(column: str, label: str, *, log: bool) -> Callable[[Any, Table], None]:
    def draw(axes: Any, table: Table) -> None:
        numbers = dict(reversed(table.numbers(column).items()))
        bars = axes.barh(list(numbers), list(numbers.values()), color=[_colour(name) for name in numbers])
        axes.bar_label(bars, [f"{number:,.10g}" for number in numbers.values()], padding=3)
        axes.set_xscale("log" if log else "linear")
        axes.margins(x=0.12)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)

    return draw


def _memory(axes: Any, table: Table) -> None:
    axes.set_prop_cycle(color=LINES)
    by_size = {size: table.numbers(f"{size:,}") for size in SIZES}
    for name in by_size[SIZES[0]]:
        points = [(size, max(found[name], 0.1)) for size, found in by_size.items() if name in found]
        style = {"color": OURS, "linewidth": 2.5} if _is_ours(name) else {"linewidth": 1}
        dashes = "--" if "streamed" in name else "-"
        axes.plot(*zip(*points, strict=True), dashes, marker="o", markersize=3, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel="MB (0.1 is 0.1 or less)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _is_ours(name: str) -> bool:
    return name.startswith(("run_all", "aiosupervise"))


def _colour(name: str) -> str:
    return OURS if _is_ours(name) else THEIRS


_PICTURES: dict[str, Callable[[Any, Table], None]] = {
    "call": _bars("ns per call", "CPU of a call that succeeds on the first attempt, in ns", log=True),
    "batch": _bars("us per job", "CPU per job, in µs", log=False),
    "scale": _memory,
}
