"""The benchmark: one table per question, our number beside the peers', measured in one run.

`python tests/benchmarks/run.py` answers all questions; `run.py call batch` only those two.
With `--page FOLDER` it also writes the tables and pictures of the documentation.
A peer that is not installed is left out, and the head of the output says so.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from questions import (
    alone,
    batch,
    call,
    cluster,
    deadline,
    everywhere,
    garbage,
    imports,
    journal,
    million,
    restarts,
    retries,
    scale,
    seen,
    storms,
    waiting,
)
from questions.machine import describe
from questions.page import Page
from questions.table import Table

QUESTIONS: dict[str, Callable[[], Table]] = {
    "call": call.ask,
    "call-alone": alone.ask_success,
    "plain": everywhere.ask_plain,
    "blocks": everywhere.ask_blocks,
    "retries": retries.ask,
    "retries-alone": alone.ask_failures,
    "seen": seen.ask,
    "garbage": garbage.ask,
    "memory": waiting.ask,
    "batch": batch.ask,
    "scale": scale.ask,
    "million": million.ask,
    "journal": journal.ask,
    "deadline": deadline.ask,
    "restarts": restarts.ask,
    "storms": storms.ask,
    "cluster": cluster.ask,
    "imports": imports.ask,
}


def read_options() -> argparse.Namespace:
    """The questions named on the command line, all of them if none is; and the folder for the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question", nargs="*", help=f"one or more of: {', '.join(QUESTIONS)}")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="where to write tables and pictures")
    options = parser.parse_args()
    if unknown := [name for name in options.question if name not in QUESTIONS]:
        parser.error(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    options.question = options.question or list(QUESTIONS)
    return options


def show(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """Print the machine, then each table as soon as it is known."""
    options = read_options()
    started = time.perf_counter()
    show(describe())
    page = None if options.page is None else Page(options.page)
    for name in options.question:
        table = QUESTIONS[name]()
        show(f"\n\n{name}: {table.text()}")
        if page is not None:
            page.add(name, table)
    show(f"\n\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":  # the fresh processes of `questions.fresh` import this file too
    main()
