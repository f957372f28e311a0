"""The options of the service example, and its display: lines for the events, and below them the tree of children."""

import argparse
import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

# This import comes first, because its ImportError states the install command if rich is missing.
import aiosupervise.integrations.rich  # noqa: F401

# isort: split
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aiosupervise import (
    AttemptFailed,
    ChildExited,
    ChildRestarted,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    Supervisor,
    listen,
)

# The seconds between two refreshes of the tree.
REDRAWN: Final = 0.25

_MAX_MESSAGE_LENGTH: Final = 60
_STYLES: Final[Mapping[str, str]] = {"running": "green", "waiting": "yellow", "stopping": "yellow", "failed": "red"}


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse `arguments`, or those of the process if None; exit with code 2 if one is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m aiosupervise.examples.service",
        description="Keep the tasks of a small aiohttp server running while the service they depend on fails.",
        epilog="exit code: 0 after --seconds, 130 after Ctrl-C and 143 after SIGTERM, 1 if the outermost supervisor "
        "gave up, 2 for an invalid option",
    )
    add = parser.add_argument
    add("--seconds", type=float, metavar="N", help="stop after this time (default: run until Ctrl-C)")
    add("--seed", type=int, default=2, metavar="N", help="seed of the simulated faults (default: %(default)s)")
    add("--quiet", action="store_true", help="show neither events nor the tree")
    options = parser.parse_args(arguments)
    if options.seconds is not None and not 0.0 < options.seconds < math.inf:
        parser.error(f"argument --seconds: must be a finite number above 0; got {options.seconds}")
    return options


@asynccontextmanager
async def shown(supervisors: Mapping[str, Supervisor], *, quiet: bool) -> AsyncIterator[None]:
    """Print a line for each event and, if stdout is a terminal, keep a tree of the supervisors below the lines."""
    if quiet:
        yield
        return
    console = Console()
    now = asyncio.get_running_loop().time
    begun = now()

    def print_event(event: Event) -> None:
        if line := _line(event):
            text = Text(f"{now() - begun:5.2f} s  {line}")
            console.print(text, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore", crop=False)

    def draw() -> Table:
        # A terminal echoes Ctrl-C at the end of the last line, so there must be room for it.
        return _table(supervisors, now(), console.width - len("^C"))

    # Every event is printed here. Without a handler, Python would print the log message of the event as well.
    logger, silent = logging.getLogger("aiosupervise"), logging.NullHandler()
    logger.addHandler(silent)
    # Live must not refresh in a thread of its own, because the supervisors may be read only in the thread of their
    # loop.
    live = Live(get_renderable=draw, console=console, auto_refresh=False, transient=not console.is_terminal)
    with listen(print_event), live:
        redrawing = asyncio.create_task(_redraw(live))
        try:
            yield
        finally:
            redrawing.cancel()
            logger.removeHandler(silent)


async def _redraw(live: Live) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(REDRAWN)


def _table(supervisors: Mapping[str, Supervisor], now: float, width: int) -> Table:
    table = Table(box=None, pad_edge=False, width=width)
    for title in ("child", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("restarts", "since"):
        table.add_column(title, no_wrap=True, justify="right")
    # The last column takes the rest of the line.
    table.add_column("last error", no_wrap=True, ratio=1)
    nested = {child.name for supervisor in supervisors.values() for child in supervisor.children()}
    for name in supervisors:
        if name not in nested:
            table.add_row(Text(name, "bold"))
            for row in _rows(name, supervisors, now):
                table.add_row(*row)
    return table


def _rows(name: str, supervisors: Mapping[str, Supervisor], now: float, depth: int = 1) -> Iterator[Sequence[Text]]:
    for child in supervisors[name].children():
        yield (
            Text("  " * depth + child.name),
            Text(child.state, _STYLES.get(child.state, "")),
            Text(str(child.restarts)),
            Text(f"{now - child.since:.1f} s"),
            Text(_described(child.last_error)),
        )
        if child.name in supervisors:
            yield from _rows(child.name, supervisors, now, depth + 1)


def _line(event: Event) -> str | None:
    match event:
        case AttemptFailed(name=name, attempt=attempt, wait=float(wait), error=error):
            return f"{name}: attempt {attempt} failed, retrying in {wait:.2f} s: {_described(error)}"
        case ChildStarted():
            what = "was started"
        case ChildExited(error=error):
            what = f"has ended: {_described(error)}"
        case ChildRestarted(restarts=restarts):
            what = f"was restarted, restarts: {restarts}"
        case ChildStopped():
            what = "was stopped"
        case Escalated():
            what = "was restarted too often, so all are stopped"
        case _:
            return None
    return f"{event.name}: {event.child} {what}"


def _described(error: BaseException | None) -> str:
    if error is None:
        return ""
    if isinstance(error, BaseExceptionGroup):
        return _described(error.exceptions[0])
    # A message may quote a server's response, which must not reach the terminal as a control sequence.
    message = "".join(char if char.isprintable() else " " for char in str(error)[:_MAX_MESSAGE_LENGTH])
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
