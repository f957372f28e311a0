"""What the service reads from the command line, and how it is shown: events as lines, and the tree below them."""

import argparse
import asyncio
import logging
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiosupervise.integrations.rich  # noqa: F401 - first, for its ImportError: it gives the install command

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

REDRAWN: Final = 0.25  # seconds
_LONGEST: Final = 60  # characters of a message
_STYLES: Final[Mapping[str, str]] = {"running": "green", "waiting": "yellow", "stopping": "yellow", "failed": "red"}


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options from `arguments`, None being the process's own; exit with 2 if one makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m aiosupervise.examples.service",
        description="Keep a small aiohttp service alive while what it depends on fails.",
    )
    add = parser.add_argument
    add("--seconds", type=float, metavar="N", help="stop after so many (default: run until Ctrl-C)")
    add("--seed", type=int, default=2, metavar="N", help="what all luck comes from (default: %(default)s)")
    add("--quiet", action="store_true", help="show neither events nor the tree")
    options = parser.parse_args(arguments)
    if options.seconds is not None and not 0.0 < options.seconds < math.inf:
        parser.error("argument --seconds: a number above 0")
    return options


@asynccontextmanager
async def shown(supervisors: Mapping[str, Supervisor], *, quiet: bool) -> AsyncIterator[None]:
    """Print a line for each event and, in a terminal, keep the tree of supervisors below them up to date.

    Where stdout is no terminal there are only the lines.
    """
    if quiet:
        yield
        return
    console = Console()
    now = asyncio.get_running_loop().time
    begun = now()

    def tell(event: Event) -> None:
        if line := _line(event):
            text = Text(f"{now() - begun:5.2f} s  {line}")
            console.print(text, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore", crop=False)

    def draw() -> Table:
        return _table(supervisors, now(), console.width - len("^C"))  # Ctrl-C is echoed at the end of the last line

    # Each event has a line here. Without a handler, Python would print that of the log too.
    logger, silent = logging.getLogger("aiosupervise"), logging.NullHandler()
    logger.addHandler(silent)
    # Live's own thread is not used: the supervisors' children change in this one.
    live = Live(get_renderable=draw, console=console, auto_refresh=False, transient=not console.is_terminal)
    with listen(tell), live:
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
    table.add_column("last error", no_wrap=True, ratio=1)  # what is left of the line
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
            return f"{name}: attempt {attempt} failed, the next one in {wait:.2f} s: {_described(error)}"
        case ChildStarted():
            what = "was started"
        case ChildExited(error=error):
            what = f"has ended: {_described(error)}"
        case ChildRestarted(restarts=restarts):
            what = f"was restarted, {restarts} by now"
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
    # A message may quote what a server sent: nothing of it may reach the terminal as a control sequence.
    message = "".join(char if char.isprintable() else " " for char in str(error)[:_LONGEST])
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
