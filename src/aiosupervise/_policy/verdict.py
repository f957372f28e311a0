"""Why a supervised call gave up: a note on the error, which is text for people and fields for programs."""

from __future__ import annotations

import enum
import threading
from typing import Any, final


@final
class Reason(enum.Enum):
    """Why a supervised call gave up."""

    EXHAUSTED = "retries exhausted"
    IRRECOVERABLE = "irrecoverable"
    DEADLINE = "deadline"
    BUDGET = "retry budget empty"
    RETRY_AFTER_TOO_LONG = "retry-after too long"


@final
class Verdict(str):
    """The note on an error that a supervised call gave up on; get it with `verdict(error)`.

    Attributes:
        attempts: how many attempts were made.
        elapsed: seconds from the first failure to the end.
        reason: why no further attempt was made.

    """

    __slots__ = ("attempts", "elapsed", "reason", "serial")

    attempts: int
    elapsed: float
    reason: Reason
    serial: int

    def __new__(cls, text: str, attempts: int, elapsed: float, reason: Reason, serial: int = 0) -> Verdict:
        """Make the note; `serial` is its place in time, 0 for one that came from elsewhere."""
        self = super().__new__(cls, text)
        self.attempts, self.elapsed, self.reason, self.serial = attempts, elapsed, reason, serial
        return self

    def __reduce__(self) -> tuple[type[Verdict], tuple[str, int, float, Reason]]:
        """Travel in a pickle without the number, which means nothing in another process."""
        return Verdict, (str(self), self.attempts, self.elapsed, self.reason)


class _SerialNumbers:
    """Numbers the verdicts of the process, so that one can be told from those before it without a clock."""

    __slots__ = ("_lock", "issued")

    def __init__(self) -> None:
        self.issued = 0
        self._lock = threading.Lock()  # loops in other threads give up as well

    def next(self) -> int:
        with self._lock:
            self.issued += 1
            return self.issued


serial_numbers = _SerialNumbers()


def verdict(error: BaseException) -> Verdict | None:
    """Return why a supervised call gave up on `error`; None if none did."""
    try:
        notes: Any = error.__notes__
    except Exception:  # there are none, or a property raises
        return None
    if not isinstance(notes, list):  # anybody may put anything there
        return None
    return next((note for note in reversed(notes) if isinstance(note, Verdict)), None)


def attach_verdict(
    error: Exception, name: str | None, attempts: int, elapsed: float, reason: Reason, earlier: list[str]
) -> None:
    """Put the verdict on `error`, in place of one from an earlier call that raised the same object."""
    plural = "" if attempts == 1 else "s"
    head = f"gave up after {attempts} attempt{plural}, {elapsed:.2f} s after the first failure: {reason.value}"
    text = "\n  ".join((f"{name}: {head}" if name else head, *earlier))
    notes = getattr(error, "__notes__", None)
    others = [note for note in notes if not isinstance(note, Verdict)] if isinstance(notes, list) else []
    notes = [*others, Verdict(text, attempts, elapsed, reason, serial_numbers.next())]
    BaseException.__setattr__(error, "__notes__", notes)  # a frozen dataclass refuses add_note
