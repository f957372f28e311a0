"""Why a supervised call gave up: a note on the error, which is text for people and fields for programs."""

from __future__ import annotations

import enum
import threading
from typing import final


@final
class Reason(enum.Enum):
    """Why a supervised call gave up."""

    EXHAUSTED = "retries exhausted"
    IRRECOVERABLE = "irrecoverable"
    DEADLINE = "deadline"
    RETRY_AFTER_TOO_LONG = "retry-after too long"


@final
class Verdict(str):
    """The note on an error that a supervised call gave up on; get it with `verdict(error)`.

    Attributes:
        attempts: how many attempts were made.
        elapsed: seconds from the first failure to the end.
        reason: why no further attempt was made.

    """

    __slots__ = ("_args", "attempts", "elapsed", "number", "reason")

    attempts: int
    elapsed: float
    reason: Reason
    number: int
    _args: tuple[int, float, Reason, tuple[str, ...]]

    def __new__(
        cls, attempts: int, elapsed: float, reason: Reason, earlier: tuple[str, ...] = (), number: int = 0
    ) -> Verdict:
        """Write the note; `earlier` has a line for each error before the last, `number` its place in time."""
        plural = "" if attempts == 1 else "s"
        head = f"gave up after {attempts} attempt{plural}, {elapsed:.2f} s after the first failure: {reason.value}"
        self = super().__new__(cls, "\n  ".join((head, *earlier)))
        self.attempts, self.elapsed, self.reason, self.number = attempts, elapsed, reason, number
        self._args = (attempts, elapsed, reason, earlier)
        return self

    def __getnewargs__(self) -> tuple[int, float, Reason, tuple[str, ...]]:  # type: ignore[override]
        """Travel in a pickle as what it was made of; its place in time means nothing elsewhere."""
        return self._args


class _Clerk:
    """Numbers the verdicts of the process, so that one can be told from those before it without a clock."""

    __slots__ = ("_lock", "issued")

    def __init__(self) -> None:
        self.issued = 0
        self._lock = threading.Lock()  # loops in other threads give up as well

    def next(self) -> int:
        with self._lock:
            self.issued += 1
            return self.issued


clerk = _Clerk()


def verdict(error: BaseException) -> Verdict | None:
    """Return why a supervised call gave up on `error`; None if none did."""
    notes = getattr(error, "__notes__", ())
    if not isinstance(notes, list):  # anybody may put anything there
        return None
    return next((note for note in reversed(notes) if isinstance(note, Verdict)), None)


def pronounce(error: Exception, attempts: int, elapsed: float, reason: Reason, earlier: tuple[str, ...]) -> None:
    """Put the verdict on `error`, in place of one from an earlier call that raised the same object."""
    notes = getattr(error, "__notes__", ())
    others = [note for note in notes if not isinstance(note, Verdict)] if isinstance(notes, list) else []
    notes = [*others, Verdict(attempts, elapsed, reason, earlier, clerk.next())]
    BaseException.__setattr__(error, "__notes__", notes)  # a frozen dataclass refuses add_note


def given_up_since(error: Exception, number: int) -> bool:
    """Tell whether a call gave up on `error`, or on a leaf of its group, after verdict `number` was issued."""
    if isinstance(error, ExceptionGroup) and any(given_up_since(leaf, number) for leaf in error.exceptions):
        return True
    former = verdict(error)
    return former is not None and former.number > number
