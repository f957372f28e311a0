"""The options of the example, and the table that it prints: nothing here is about supervising."""

import argparse
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from yarl import URL

from aiosupervise import Failure, Outcome, Report, Success

Strategy = Literal["gather", "as_completed", "wait"]

_STRATEGIES: Final[tuple[Strategy, ...]] = get_args(Strategy)
_NARROWEST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line of the example."""

    url: str | None
    strategies: Sequence[Strategy]
    jobs: int
    limit: int
    timeout: float | None
    max_retries: int
    seed: int
    quiet: bool
    engine: str
    journal: str | None


def read_options(arguments: Sequence[str] | None) -> Options:
    """Parse `arguments`, or the process's own if None; exit with code 2 if one is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m aiosupervise.examples.fetch",
        description="Fetch many pages of a site that fails, under each of the three strategies.",
    )
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", type=_url, help="the page to fetch (default: a flaky site on loopback)")
    add("--strategy", choices=[*_STRATEGIES, "all"], default="all", help="default: all, one after another")
    add("--jobs", type=_count(1), default=20, metavar="N", help="number of fetches (default: %(default)s)")
    add("--limit", type=_count(1), default=20, metavar="N", help="concurrent fetches (default: %(default)s)")
    add("--timeout", type=_seconds, metavar="SECONDS", help="of the run of each strategy (default: none)")
    add("--max-retries", type=_count(0), default=3, metavar="N", help="of each fetch (default: %(default)s)")
    add(
        "--seed",
        type=int,
        default=17,
        metavar="N",
        help="the same seed gives the same faults (default: %(default)s)",
    )
    add("--engine", choices=["local", "dask"], default="local", help="dask: on two worker processes (default: local)")
    add("--journal", metavar="PATH", help="keep the results in this file; killed and started again, continue")
    add("--quiet", action="store_true", help="no progress bar")
    values = vars(parser.parse_args(arguments))
    strategy = values.pop("strategy")
    return Options(strategies=_STRATEGIES if strategy == "all" else (strategy,), **values)


def show(report: Report[str, object]) -> None:
    """Print a table of the outcomes and a line of totals."""
    rows = [("job", "result or error", "attempts", "seconds"), *map(_row, report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = widths[0] + widths[2] + widths[3] + 3 * len("  ")
    widths[1] = min(widths[1], max(_NARROWEST, shutil.get_terminal_size().columns - others))
    for job, result, attempts, seconds in rows:
        cells = (
            job.ljust(widths[0]),
            _crop(result, widths[1]),
            attempts.rjust(widths[2]),
            seconds.rjust(widths[3]),
        )
        print("  ".join(cells).rstrip())
    tally = report.tally
    journal = f"; {tally.replayed} from the journal" if tally.replayed else ""
    print(
        f"{len(report)} jobs in {report.elapsed:.2f} s: {tally.succeeded} succeeded, {tally.failed} failed, "
        f"{tally.pending} pending; {tally.retries} retries{journal}\n"
    )


def _row(outcome: Outcome[str, object]) -> tuple[str, str, str, str]:
    if isinstance(outcome, Success):
        value = f"{outcome.value}, from the journal" if outcome.replayed else outcome.value
        return outcome.name, value, str(outcome.attempts), f"{outcome.elapsed:.2f}"
    if isinstance(outcome, Failure):
        return outcome.name, _describe(outcome), str(outcome.attempts), f"{outcome.elapsed:.2f}"
    return outcome.name, "pending: stopped" if outcome.started else "pending: not started", "", ""


def _describe(failure: Failure[object]) -> str:
    reason = [failure.reason.value] if failure.reason else []
    # A message may quote a server's response, which must not reach the terminal as a control sequence.
    message = "".join(char if char.isprintable() else " " for char in str(failure.error))
    return ": ".join([*reason, type(failure.error).__name__, *([message] if message else [])])


def _crop(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def _url(text: str) -> str:
    try:
        url = URL(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be an http or https URL; got {text!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"must be an http or https URL, such as https://example.org/; got {text!r}")
    return text


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be an integer of at least {least}; got {text!r}")
        return int(text)

    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0; got {text!r}")
    return seconds
