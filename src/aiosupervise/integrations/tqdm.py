"""The bar behind `progress=True`: tqdm, in a terminal or a notebook.

Install with `pip install "aiosupervise[tqdm]"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

try:
    from tqdm.auto import tqdm
except ImportError as _error:
    raise ImportError('progress=True needs tqdm: pip install "aiosupervise[tqdm]"') from _error

if TYPE_CHECKING:
    from aiosupervise._batch.outcomes import Tally


class _Bar(tqdm):  # type: ignore[type-arg]  # generic for the type checkers only
    monitor_interval = 0  # no thread of its own: our timer keeps it moving


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

    def show(self, tally: Tally, trouble: str = "") -> None:
        """Draw the bar for these counts; `trouble` says what the run waits for, if it does."""
        if self._bar is not None:
            self._bar.total = tally.total
            self._bar.n = tally.succeeded + tally.failed
            counts = f"{tally.succeeded} succeeded, {tally.failed} failed, {tally.retries} retried"
            self._bar.set_postfix_str(f"{counts}; {trouble}" if trouble else counts, refresh=True)

    def close(self) -> None:
        """Leave the last line and go on below it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
