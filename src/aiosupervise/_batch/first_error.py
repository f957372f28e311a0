"""Keeps the first error of a run's source or engine until the caller receives it."""

from __future__ import annotations

from collections.abc import Callable

from aiosupervise._call.tasks import without_traceback
from aiosupervise._policy.checks import error_text


class FirstError:
    """The first error of a run; later ones are dropped, because they are usually consequences of the first."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def keep(self, error: BaseException | None) -> None:
        """Keep an error, unless an earlier one has been kept."""
        if self._error is None and error is not None:
            self._error = without_traceback(error)

    def guard(self, step: Callable[[], object]) -> None:
        """Perform a step; if it raises an error, keep the error, so that the following steps are always performed."""
        try:
            step()
        except BaseException as error:
            self.keep(error)

    def note_on(self, other: BaseException) -> None:
        """Add the kept error as a note to the error that the caller receives instead, and drop the kept error."""
        if self._error is not None and self._error is not other:
            other.add_note(f"the source of the run had failed too: {error_text(self._error)}")
        # The error is dropped, because its traceback refers to frames of the pump.
        self._error = None

    def raise_once(self) -> None:
        """Raise the kept error, if there is one, and drop it."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error
