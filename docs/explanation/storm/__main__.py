"""Simulate a service that is overloaded, down or throttling: the tables and pictures of storm.md.

python -m storm               # all tables, with seed 0
python -m storm --seeds 10    # the median of ten seeds, with the range in parentheses

It is run in docs/explanation, or by `nox -s storm`.
"""

import argparse
import logging
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from .plots import draw
from .tables import TABLES, Table


def show(table: Table, seeds: Sequence[int]) -> None:
    """Simulate the scenarios of a table with each seed, and print a line for each scenario."""
    rows: list[list[str]] = []
    for labels, scenario in table.scenarios.items():
        figures = [scenario.simulate(seed).figures for seed in seeds]
        if not rows:
            rows.append([*table.labels, *figures[0]])
        rows.append([*labels, *(format_cell([of_seed[column] for of_seed in figures]) for column in figures[0])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(table.title)
    for row in rows:
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        for n in range(len(table.labels)):
            cells[n] = row[n].ljust(widths[n])
        print("  ".join(cells))
    print(flush=True)


def format_cell(numbers: Sequence[float]) -> str:
    """Return the median as text, followed by the range if the numbers differ."""
    low, median, high = map(format_number, (min(numbers), statistics.median_low(numbers), max(numbers)))
    return median if low == high else f"{median} ({low}-{high})"


def format_number(number: float) -> str:
    """Return a number as text; infinity, the time until an event that never happens, is "never"."""
    if number == math.inf:
        return "never"
    return str(number) if isinstance(number, int) else f"{number:.2f}"


def plot(table: Table, seed: int, directory: Path) -> None:
    """Draw the pictures of a table, and print the paths of their files."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, chosen in table.pictures.items():
        path = directory / f"{name}.svg"
        draw(path, {", ".join(labels): table.scenarios[labels].simulate(seed) for labels in chosen})
        print(path)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse `arguments`, or the process's own if None; exit with code 2 if one is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m storm", description="Simulate a service that is overloaded, down or throttling."
    )
    add = parser.add_argument
    number = f"1 to {len(TABLES)}"
    add("--table", type=int, choices=range(1, len(TABLES) + 1), metavar="N", help=f"one table only, {number}")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the simulation (default: 0)")
    seeds.add_argument("--seeds", type=int, metavar="N", help="print median and range of the seeds 0 to N - 1")
    add("--plot", type=Path, metavar="DIRECTORY", help="draw the pictures into this directory instead, as SVG")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"argument --seeds: must be at least 1; got {options.seeds}")
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
