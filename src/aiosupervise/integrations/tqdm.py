"""The progress bar behind `progress=True`: tqdm, in a terminal or a notebook.

Install with `pip install "aiosupervise[tqdm]"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, final

try:
    from tqdm.auto import tqdm
except ImportError as _error:
    raise ImportError('progress=True needs tqdm: pip install "aiosupervise[tqdm]"') from _error

from aiosupervise._events import log as _log

if TYPE_CHECKING:
    from aiosupervise._events.outcomes import Tally


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in the stubs only
    # No monitor thread, which redraws bars that are updated rarely: a timer of the event loop updates this one. Without
    # the thread there is no deadlock between it and a bar that is collected (https://github.com/tqdm/tqdm/issues/469).
    monitor_interval = 0

    _hidden: Callable[[], AbstractContextManager[None]] | None = None

    def hide_for_log_lines(self) -> None:
        """Have the log hide the bars of this terminal while it prints a line, until `close`."""
        if not self.disable and _is_terminal(self.fp):
            # Registered is a function that does not hold the bar, so that a bar that is dropped can still be collected.
            self._hidden = partial(_bars_hidden, self.fp)
            _log.beside_bars.append(self._hidden)

    def close(self) -> None:
        """Leave the last line, and deregister from the log.

        `tqdm.__del__` calls this too, so a bar that failed and was dropped is deregistered as well.
        """
        if self._hidden is not None:
            _log.beside_bars.remove(self._hidden)
            self._hidden = None
        super().close()


def _is_terminal(file: IO[str]) -> bool:
    return bool(getattr(file, "isatty", bool)())


@contextmanager
def _bars_hidden(file: IO[str]) -> Iterator[None]:
    """Clear all bars of a terminal, and draw them again below whatever was printed meanwhile.

    By itself `external_write_mode` holds tqdm's lock for the whole block, in which a logging handler may wait for a
    lock of its own. Another thread that has the handler's lock and draws a bar would then wait for tqdm's: a deadlock.
    So the lock is acquired once to clear the bars and once to draw them, and is free in between.

    Errors of either step are suppressed: the log line is to be printed in any case.
    """
    bars = _Bar.external_write_mode(file=file, nolock=True)
    lock = _Bar.get_lock()  # type: ignore[no-untyped-call]  # the stubs give it no type
    with suppress(Exception), lock:
        bars.__enter__()
    try:
        yield
    finally:
        with suppress(Exception), lock:
            bars.__exit__(None, None, None)


@final
class ProgressBar:
    """A tqdm bar for a run: jobs done of the total, jobs per second, how the jobs ended, and why the run is paused.

    Args:
        name: the text before the bar.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: _Bar | None = None

    def open(self, tally: Tally) -> None:
        """Show the bar."""
        self._bar = _Bar(total=tally.total, desc=self._name, unit="job")
        self._bar.hide_for_log_lines()

    def show(self, tally: Tally, status: str = "") -> None:
        """Draw the bar with these counts.

        `status` comes before the counts, since tqdm cuts off what is too long for the line.
        """
        if self._bar is not None:
            self._bar.total = tally.total
            self._bar.n = tally.succeeded + tally.failed
            counts = f"{tally.succeeded} succeeded, {tally.failed} failed, {tally.retries} retries"
            self._bar.set_postfix_str(f"{status}; {counts}" if status else counts, refresh=True)

    def close(self) -> None:
        """Close the bar, and leave its last line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
