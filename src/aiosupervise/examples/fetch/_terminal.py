"""The options and the output of the example; nothing here concerns supervision."""

import argparse
import asyncio
import math
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from tqdm import tqdm
from yarl import URL

from aiosupervise import Failure, Outcome, Report, Run, Success

if TYPE_CHECKING:
    from aiosupervise._batch.progress import BarOptions

PROGRAM: Final = "python -m aiosupervise.examples.fetch"

StrategyName = Literal["gather", "as_completed", "wait"]

_STRATEGIES: Final[tuple[StrategyName, ...]] = get_args(StrategyName)
_NARROWEST: Final = 20
_EXIT_CODES: Final = """\
exit code: 0 when every run has ended, whatever its outcomes; 130 after Ctrl-C and 143 after SIGTERM; 2 for an invalid
option, or a journal that cannot be used"""

# Seconds between two checks for a signal.
_CHECKED: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command-line options of the example."""

    url: str | None
    strategies: Sequence[StrategyName]
    jobs: int
    limit: int
    timeout: float | None
    max_retries: int
    seed: int
    quiet: bool
    engine: str
    journal: str | None


def read_options(arguments: Sequence[str] | None) -> Options:
    """Parse `arguments`, or those of the process if None; exit with code 2 if one is invalid."""
    values = vars(_parser().parse_args(arguments))
    strategy = values.pop("strategy")
    return Options(strategies=_STRATEGIES if strategy == "all" else (strategy,), **values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Fetch many pages of a site that fails, under each of the three strategies.",
        epilog=_EXIT_CODES,
    )
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", type=_url, help="the page to fetch (default: a flaky site on loopback)")
    add(
        "--strategy",
        choices=[*_STRATEGIES, "all"],
        default="all",
        metavar="NAME",
        help=f"{', '.join(_STRATEGIES)}, or all: one after another (default: %(default)s)",
    )
    add("--jobs", type=_count(1), default=20, metavar="N", help="number of fetches (default: %(default)s)")
    add("--limit", type=_count(1), default=5, metavar="N", help="concurrent fetches (default: %(default)s)")
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
    add("--journal", metavar="PATH", help="store the results in this file, and resume from it after a crash")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def bar(options: Options) -> "bool | BarOptions":
    """Return the settings of the progress bar, which omits the rate so that the counts fit into 80 columns."""
    if options.quiet:
        return False
    # A terminal echoes Ctrl-C after the bar. Without room for it, the bar would wrap onto a second line.
    columns = shutil.get_terminal_size().columns - len("^C")
    return {"ncols": columns, "bar_format": "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"}


@asynccontextmanager
async def stop_announced(run: Run[str, Any]) -> AsyncIterator[None]:
    """If a signal stops the run during the block, announce what the run waits for, and how to cancel the wait."""
    announcing = asyncio.create_task(_announce_stop(run))
    try:
        yield
    finally:
        announcing.cancel()


async def _announce_stop(run: Run[str, Any]) -> None:
    while run.stopped_by is None:  # noqa: ASYNC110 - there is no event of it
        await asyncio.sleep(_CHECKED)
    running = run.tally.running
    what = "1 running fetch" if running == 1 else f"{running} running fetches"
    # The line is printed above the bar, which `print` would disrupt.
    tqdm.write(f"Stopping: waiting for {what}. Press Ctrl-C again to cancel them.", file=sys.stderr)


def show(report: Report[str, object]) -> None:
    """Print a table of the outcomes, and a summary."""
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
    print(f"\n{report.summary()}\n")


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
