"""The verdict: a note on the error that a supervised call gave up on, with text for people and fields for programs.

Verdicts are numbered in the order in which the process issues them. A call can therefore determine without a clock
whether a verdict was issued during its current attempt or before.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterable
from typing import final

from .checks import error_text
from .raw import attributes_of


@final
class Reason(enum.Enum):
    """The reason why a supervised call gave up."""

    EXHAUSTED = "retries exhausted"
    IRRECOVERABLE = "irrecoverable"
    DEADLINE = "deadline"
    BUDGET = "retry budget empty"
    RETRY_AFTER_TOO_LONG = "retry-after too long"
    USED_UP = "argument used up"


@final
class Verdict(str):
    """The note on an error that a supervised call gave up on; `verdict(error)` returns it.

    Attributes:
        attempts: the number of attempts.
        elapsed: seconds from the first failure to the end of the call.
        reason: why there was no further attempt.
    """

    # `serial` is the serial number in this process, from 1; 0 for a verdict that was issued in another process.
    __slots__ = ("attempts", "elapsed", "reason", "serial")

    attempts: int
    elapsed: float
    reason: Reason
    serial: int

    def __new__(cls, text: str, attempts: int, elapsed: float, reason: Reason, serial: int = 0) -> Verdict:
        """Create the note; `serial` is omitted for a verdict that was issued in another process."""
        self = super().__new__(cls, text)
        self.attempts, self.elapsed, self.reason, self.serial = attempts, elapsed, reason, serial
        return self

    def __reduce__(self) -> tuple[type[Verdict], tuple[str, int, float, Reason]]:
        """Pickle the verdict without its serial number, which has no meaning in another process."""
        return Verdict, (str(self), self.attempts, self.elapsed, self.reason)


class _SerialNumbers:
    """The serial numbers of the verdicts of this process, shared by the event loops in all its threads."""

    __slots__ = ("_lock", "issued")

    def __init__(self) -> None:
        self.issued = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """Issue the next number."""
        with self._lock:
            self.issued += 1
            return self.issued


serial_numbers = _SerialNumbers()


def verdict(error: BaseException) -> Verdict | None:
    """Return the verdict of the supervised call that gave up on `error`, or None if no call did.

    If several calls gave up on the same object, the last verdict is returned.
    """
    # User code can define `__notes__` as a property that raises, so the notes are read from where `attach_verdict`
    # stores them.
    return next((note for note in reversed(_notes_of(error)) if isinstance(note, Verdict)), None)


def _notes_of(error: BaseException) -> list[object]:
    notes = attributes_of(error).get("__notes__")
    return notes if isinstance(notes, list) else []


def attach_verdict(
    error: Exception, name: str | None, attempts: int, elapsed: float, reason: Reason, lines: Iterable[str]
) -> None:
    """Attach a verdict to `error`, replacing one from an earlier call that raised the same object.

    Args:
        error: the error that the call gives up on.
        name: the name of the policy; None if it has none.
        attempts: the number of attempts.
        elapsed: seconds since the first failure.
        reason: why there is no further attempt.
        lines: details of the reason, and one line for each earlier error.
    """
    plural = "" if attempts == 1 else "s"
    head = f"gave up after {attempts} attempt{plural}, {elapsed:.2f} s after the first failure: {reason.value}"
    text = _text(name, head, lines)
    others = [note for note in _notes_of(error) if not isinstance(note, Verdict)]
    _set_notes(error, [*others, Verdict(text, attempts, elapsed, reason, serial_numbers.next())])


class _EarlierErrors(str):
    """The note on an unlisted error, with a line for each attempt that failed before it.

    Like a verdict it has a serial number, which has no meaning in another process, so it is pickled as a plain string.
    """

    __slots__ = ("serial",)

    serial: int

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def attach_earlier_errors(error: Exception, name: str | None, attempts: int, serial: int, lines: Iterable[str]) -> None:
    """Attach a note about the earlier attempts to an error that is passed on without a verdict.

    It replaces any such note that another call attached to the same object before the serial number `serial` was
    issued. A newer note comes from a call inside this attempt, and is kept.
    """
    others = [note for note in _notes_of(error) if not isinstance(note, _EarlierErrors) or note.serial > serial]
    note = _EarlierErrors(_text(name, f"passed on from attempt {attempts}, after retries of other errors", lines))
    note.serial = serial_numbers.next()
    _set_notes(error, [*others, note])


# The maximum number of earlier errors in a note, and the maximum length of the line about each.
_MAX_LINES = 10
_MAX_LINE = 200


def add_line(lines: tuple[str, ...], attempt: int, error: Exception) -> tuple[str, ...]:
    """Return the lines about earlier errors, with a line about the error of this attempt added."""
    line = f"attempt {attempt}: {error_text(error, join_lines=True)}"[:_MAX_LINE]
    return (*lines, line)[-_MAX_LINES:]


def _text(name: str | None, head: str, lines: Iterable[str]) -> str:
    return "\n  ".join((f"{name}: {head}" if name else head, *lines))


def _set_notes(error: Exception, notes: list[object]) -> None:
    # `add_note` fails on an exception that is a frozen dataclass, or whose class defines `__notes__`.
    attributes_of(error)["__notes__"] = notes
