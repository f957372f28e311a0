"""The progress bar behind `progress=True`: tqdm, in a terminal or a notebook.

Install with `pip install "aiosupervise[tqdm]"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any, final

try:
    from tqdm.auto import tqdm
except ImportError as _error:
    raise ImportError('progress=True needs tqdm: pip install "aiosupervise[tqdm]"') from _error

from aiosupervise._events import log as _log

if TYPE_CHECKING:
    from aiosupervise._batch.progress import BarOptions
    from aiosupervise._events.outcomes import Tally


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in the stubs only
    # tqdm's monitor thread redraws bars that are updated rarely. The thread is not needed, because a timer of the event
    # loop updates this bar, and the thread could cause a deadlock when a bar is garbage-collected
    # (https://github.com/tqdm/tqdm/issues/469).
    monitor_interval = 0

    _hidden: Callable[[], AbstractContextManager[None]] | None = None

    def hide_for_log_lines(self) -> None:
        """Register with the log, which then hides the bars of this terminal while it prints a line."""
        if not self.disable and _is_terminal(self.fp):
            # The registered function does not refer to the bar, so that a dropped bar can be garbage-collected.
            self._hidden = partial(_bars_hidden, self.fp)
            _log.beside_bars.append(self._hidden)

    def close(self) -> None:
        """Leave the final line on the screen, and deregister from the log.

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
    """Clear all bars of a terminal, and draw them again below the output that was printed in the meantime.

    By itself, `external_write_mode` would hold tqdm's lock for the whole block, in which a logging handler may wait for
    its own lock. If another thread held the handler's lock while drawing a bar, it would wait for tqdm's lock: a
    deadlock. Therefore the lock is acquired once to clear the bars and once to draw them, and is released in between.

    Errors of either step are suppressed, because the log line must be printed in any case.
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


# tqdm's own format, and shorter ones for narrow terminals: without the rate, the estimate, and finally the bar.
_FORMATS = (
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]",
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
    "{desc}: {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
)
# While the run is paused there is no rate and no estimate, and the reason takes their place.
_PAUSED_FORMATS = ("{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} [{}]", "{{desc}}: {{n_fmt}}/{{total_fmt}} [{}]")
_SHORTEST_BAR = 10  # characters
# In seconds; a shorter interval would cost time without a visible effect.
_SHORTEST_INTERVAL = 0.05
_NO_DIGITS = str.maketrans("", "", "0123456789.")


@final
class ProgressBar:
    """A tqdm bar for a run: finished jobs, jobs per second, failures, retries, and why the run is paused.

    Args:
        name: the text before the bar.
        options: further keywords of tqdm.

    Attributes:
        interval: seconds between two updates: tqdm's `mininterval`.
    """

    # Set by `open`; the last two are not set if the bar is disabled.
    _bar: _Bar
    _is_terminal: bool
    # Whether the user has set `bar_format`.
    _has_format: bool

    def __init__(self, name: str, options: BarOptions | None = None) -> None:
        self.interval: float = 0.1
        self._options: BarOptions = {"desc": name, "unit": "job", **(options or {})}
        self._shown: object = None
        self._replayed = 0

    def open(self, tally: Tally) -> None:
        """Show the bar."""
        self._bar = bar = _Bar(total=tally.total, **self._options)
        bar.hide_for_log_lines()
        if not bar.disable:
            self._is_terminal = _is_terminal(bar.fp)
            self._has_format = bar.bar_format is not None
            # The timer of the run observes the interval by the clock of the loop. tqdm itself skips an update only if
            # the user has set `miniters`.
            self.interval = max(bar.mininterval, _SHORTEST_INTERVAL)
            bar.mininterval = 0
            bar.dynamic_miniters = False

    def show(self, tally: Tally, status: str = "") -> None:
        """Draw the bar with these counts; outside a terminal, only if something has changed."""
        bar = self._bar
        if bar.disable:
            return
        done = tally.succeeded + tally.failed
        # A countdown in the status does not count as a change.
        shown = (done, tally.total, _counts(tally), status.translate(_NO_DIGITS))
        if shown == self._shown and not self._is_terminal:
            return
        self._shown = shown
        bar.total = tally.total
        bar.set_postfix_str(status or _counts(tally), refresh=False)
        if not self._has_format:
            formats = [form.format(status) for form in _PAUSED_FORMATS] if status else _FORMATS
            bar.bar_format = _longest_that_fits(bar, done, formats)
        self._skip_replayed(bar, tally.replayed)
        bar.update(done - bar.n)

    def _skip_replayed(self, bar: _Bar, replayed: int) -> None:
        """Exclude the replayed jobs, which are done, from the rate."""
        new, self._replayed = replayed - self._replayed, replayed
        bar.initial += new
        bar.last_print_n += new

    def close(self) -> None:
        """Close the bar, and leave its final line on the screen."""
        self._bar.close()


def _longest_that_fits(bar: _Bar, done: int, formats: Sequence[str]) -> str | None:
    """Return the first format that leaves room for the bar in its line; the last one has no bar."""
    if not bar.total and formats is _FORMATS:
        return None
    values: dict[str, Any] = {**bar.format_dict, "n": done}
    columns = values.pop("ncols")
    if not (bar.total and isinstance(columns, int)):
        return formats[0]
    for form in formats[:-1]:
        text = bar.format_meter(**values | {"bar_format": form.replace("{bar}", "")})
        if columns - len(text) >= _SHORTEST_BAR:
            return form
    return formats[-1]


def _counts(tally: Tally) -> str:
    """Return the counts that the bar itself does not show; the text is short, since a line may have only 80 columns."""
    retries = "retry" if tally.retries == 1 else "retries"
    done = ((tally.replayed, "from the journal"), (tally.failed, "failed"))
    paused = "group paused" if tally.paused_groups == 1 else "groups paused"
    counts = (*done, (tally.retries, retries), (tally.pending, "pending"), (tally.paused_groups, paused))
    return ", ".join(f"{count} {what}" for count, what in counts if count)
