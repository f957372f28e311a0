"""The bar behind `progress=True`: tqdm, in a terminal or a notebook.

Install with `pip install "aiosupervise[tqdm]"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, final

try:
    from tqdm.auto import tqdm
except ImportError as _error:
    raise ImportError('progress=True needs tqdm: pip install "aiosupervise[tqdm]"') from _error

from aiosupervise._events import log as _log

if TYPE_CHECKING:
    from aiosupervise._events.outcomes import Tally


class _Bar(tqdm):  # type: ignore[type-arg]  # generic for the type checkers only
    monitor_interval = 0  # no thread of its own: our timer keeps it moving

    def step_aside(self) -> None:
        """From now until `close`, make room for log lines: all bars of this terminal do."""
        if not self.disable and _is_terminal(self.fp):
            self._beside = _Beside(self.fp)
            _log.beside_bars.append(self._beside)

    def close(self) -> None:
        """Leave the last line. A bar that failed and was dropped comes here too: tqdm closes those."""
        beside: _Beside | None = self.__dict__.pop("_beside", None)
        if beside is not None:
            _log.beside_bars.remove(beside)
        super().close()


def _is_terminal(file: IO[str]) -> bool:
    return bool(getattr(file, "isatty", bool)())


class _Beside:
    """How to print to the terminal of a bar. It does not hold the bar, which closes itself when it is dropped."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Clear the bars, and draw them again below the line.

        tqdm's lock is free in between: the handler that prints may wait for a lock of its own, which another thread
        holds while it draws a bar.
        """
        mode = _Bar.external_write_mode(file=self._file, nolock=True)
        lock = _Bar.get_lock()  # type: ignore[no-untyped-call]  # the stubs give it no type
        with suppress(Exception), lock:  # the line is to be printed all the same
            mode.__enter__()
        try:
            yield
        finally:
            with suppress(Exception), lock:
                mode.__exit__(None, None, None)


@final
class ProgressBar:
    """A tqdm bar that shows a run: how many jobs are done, of how many, how fast, how they ended, and why it pauses.

    Args:
        name: the text before the bar.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: _Bar | None = None

    def open(self, tally: Tally) -> None:
        """Show the bar."""
        self._bar = _Bar(total=tally.total, desc=self._name, unit="job")
        self._bar.step_aside()

    def show(self, tally: Tally, trouble: str = "") -> None:
        """Draw the bar for these counts; `trouble` says what the run waits for, if it does."""
        if self._bar is not None:
            self._bar.total = tally.total
            self._bar.n = tally.succeeded + tally.failed
            counts = f"{tally.succeeded} succeeded, {tally.failed} failed, {tally.retries} retries"
            self._bar.set_postfix_str(f"{trouble}; {counts}" if trouble else counts, refresh=True)

    def close(self) -> None:
        """Leave the last line and go on below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
