"""The benchmark: one table per question, our number beside the peers', measured in one run.

`python tests/benchmarks/run.py` answers all questions; `run.py call batch` only those two.
A peer that is not installed is left out, and the head of the output says so.
"""

import argparse
import time
from collections.abc import Callable

from questions import batch, call, cluster, deadline, garbage, million, restarts, retries, seen, waiting
from questions.machine import describe
from questions.table import Table

QUESTIONS: dict[str, Callable[[], Table]] = {
    "call": call.ask,
    "retries": retries.ask,
    "seen": seen.ask,
    "garbage": garbage.ask,
    "memory": waiting.ask,
    "batch": batch.ask,
    "million": million.ask,
    "deadline": deadline.ask,
    "restarts": restarts.ask,
    "cluster": cluster.ask,
}


def chosen() -> list[str]:
    """The questions named on the command line; all of them if none is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question", nargs="*", help=f"one or more of: {', '.join(QUESTIONS)}")
    names: list[str] = parser.parse_args().question
    if unknown := [name for name in names if name not in QUESTIONS]:
        parser.error(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    return names or list(QUESTIONS)


def show(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201


def main() -> None:
    """Print the machine, then each table as soon as it is known."""
    names = chosen()
    started = time.perf_counter()
    show(describe())
    for name in names:
        show(f"\n\n{name}: {QUESTIONS[name]().text()}")
    show(f"\n\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":  # the fresh processes of `questions.fresh` import this file too
    main()
