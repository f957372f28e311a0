"""Simulate services in trouble, and what becomes of a batch: the library's own code, in virtual time.

python -m aiosupervise.examples.storm               # all tables, with one seed
python -m aiosupervise.examples.storm --seeds 10    # the median of ten, and the range in brackets
"""

import argparse
import logging
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from ._plots import draw
from ._storms import TABLES, Table


def show(table: Table, seeds: Sequence[int]) -> None:
    """Simulate the scenarios of a table with each seed, and print a line for each scenario."""
    rows: list[list[str]] = []
    for labels, scenario in table.scenarios.items():
        numbers = [scenario.play(seed).numbers for seed in seeds]
        if not rows:
            rows.append([*table.labels, *numbers[0]])
        rows.append([*labels, *(cell([of_seed[column] for of_seed in numbers]) for column in numbers[0])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(table.title)
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        for n in range(len(table.labels)):
            cells[n] = row[n].ljust(widths[n])
        print("  ".join(cells))
    print(flush=True)


def cell(numbers: Sequence[float]) -> str:
    """Write the median, and the range if there is one."""
    low, median, high = map(written, (min(numbers), statistics.median_low(numbers), max(numbers)))
    return median if low == high else f"{median} ({low}-{high})"


def written(number: float) -> str:
    """Write a number; infinity means that something never happens."""
    if number == math.inf:
        return "never"
    return str(number) if isinstance(number, int) else f"{number:.2f}"


def plot(table: Table, seed: int, directory: Path) -> None:
    """Draw the pictures of a table, and print the names of their files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, chosen in table.pictures.items():
        path = directory / f"{name}.svg"
        draw(path, {", ".join(labels): table.scenarios[labels].play(seed) for labels in chosen})
        print(path)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options from `arguments`, None being the process's own; exit with 2 if one makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m aiosupervise.examples.storm",
        description="Simulate services in trouble, and what becomes of a batch.",
    )
    add = parser.add_argument
    number = f"1 to {len(TABLES)}"
    add("--table", type=int, choices=range(1, len(TABLES) + 1), metavar="N", help=f"only this one, {number}")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, metavar="N", help="what all luck comes from (default: 0)")
    seeds.add_argument("--seeds", type=int, metavar="N", help="use the seeds 0 to N - 1, and print median and range")
    add("--plot", type=Path, metavar="DIRECTORY", help="draw pictures into this directory instead, as SVG")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error("argument --seeds: at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulation from a command line and return its exit code."""
    options = read_options(arguments)
    # Simulated runs pause by the hundred, and Python would print a line for each.
    logging.getLogger("aiosupervise").addHandler(logging.NullHandler())
    seeds = [options.seed] if options.seeds is None else range(options.seeds)
    tables = TABLES if options.table is None else [TABLES[options.table - 1]]
    try:
        print("seeds:", *seeds, end="\n\n", flush=True)
        for table in tables:
            if options.plot is None:
                show(table(), seeds)
            else:
                plot(table(), seeds[0], options.plot)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
