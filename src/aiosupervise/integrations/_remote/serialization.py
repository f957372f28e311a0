"""How inputs, values and errors travel between driver and workers: each by itself, so that none harms another."""

from __future__ import annotations

import io
import pickle
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeAlias, final

import cloudpickle  # type: ignore[import-untyped]  # it has no types

from aiosupervise._call.frames import WRAPPERS
from aiosupervise._call.supervise import supervise
from aiosupervise._events.outcomes import Failure, Outcome, Pending, Success
from aiosupervise._policy.checks import safe_repr
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.verdict import Reason, Verdict

Record: TypeAlias = tuple[int, bytes | None, "Story | None", int, float, Reason | None, bool]
"""What became of a job: its place in the chunk, the packed value or error, an error's story, attempts, seconds,
reason, and whether a pending job had begun. A value has no story; what is pending has neither."""

LONGEST = 20_000  # characters of a traceback that travel: one of a RecursionError in a group has many more


@final
class RemoteError(Exception):
    """Stands for what a job on a worker raised, or returned, and what cannot be brought here.

    Attributes:
        type_name: the name of the error's class, with its module.
        message: its text.
        traceback_text: its traceback, as Python prints it.
        why: what was in the way.

    """

    def __init__(self, type_name: str, message: str, traceback_text: str, why: str) -> None:
        super().__init__(type_name, message, traceback_text, why)
        self.type_name: str = type_name
        self.message: str = message
        self.traceback_text: str = traceback_text
        self.why: str = why

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message} ({self.why})"


@dataclass(frozen=True, slots=True)
class Story:
    """An error in words, which come through whatever happens to the object."""

    type_name: str
    message: str
    traceback_text: str
    notes: tuple[str, ...]
    why: str = ""


def pack(value: object) -> bytes:
    """Pickle a value; what only this process has in its `__main__`, or has registered as such, goes with it."""
    if cloudpickle.list_registry_pickle_by_value():
        return pack_by_value(value)
    try:
        packed = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pack_by_value(value)
    return pack_by_value(value) if b"__main__" in packed else packed


def pack_by_value(value: object) -> bytes:
    """Pickle a value with what it needs of `__main__`, and with functions inside of functions."""
    file = io.BytesIO()
    _Pickler(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Takes a supervised function apart: what makes it supervised is of the process that it arrives in."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType) and not _is_importable(obj):
            policy = getattr(obj, "policy", None)
            # Ours, and not a wrapper around it, which functools.wraps gives the same attributes.
            if isinstance(policy, Policy) and id(obj.__code__) in WRAPPERS:
                return _supervised, (policy, getattr(obj, "__wrapped__"))  # noqa: B009 - a function has none for mypy
        return super().reducer_override(obj)


def _is_importable(function: Any) -> bool:
    home = function.__module__
    found: Any = sys.modules.get(home)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    by_value = ("__main__", *cloudpickle.list_registry_pickle_by_value())
    return found is function and not any(f"{home}.".startswith(f"{name}.") for name in by_value)


def _supervised(policy: Policy, bare: Callable[..., Coroutine[Any, Any, Any]]) -> object:
    return supervise(policy)(bare)


def unpack(packed: bytes) -> Any:
    """Give back what was packed; a class that this process cannot import raises whatever it raises."""
    return pickle.loads(packed)  # noqa: S301 - what a worker sends has run the user's code before


def record_of(position: int, outcome: Outcome[object, object]) -> Record:
    """Make what travels of an outcome."""
    if isinstance(outcome, Pending):
        return unfinished(position, started=outcome.started)
    if isinstance(outcome, Success):
        try:
            return position, pack(outcome.value), None, outcome.attempts, outcome.elapsed, None, True
        except Exception as error:
            story = _story(error, f"the result, of type {type(outcome.value).__name__}, cannot be pickled")
            return position, None, story, outcome.attempts, outcome.elapsed, None, True
    packed, story = _packed_error(outcome)
    return position, packed, story, outcome.attempts, outcome.elapsed, outcome.reason, True


def unfinished(position: int, *, started: bool = False) -> Record:
    """Make the record of a job that the end of the run came before."""
    return position, None, None, 0, 0.0, None, started


def refusal(position: int, error: Exception) -> Record:
    """Make the record of a job whose input did not arrive."""
    return position, None, _story(error, "the input cannot be unpickled on the worker"), 1, 0.0, None, True


def remote_error(error: BaseException, why: str) -> RemoteError:
    """Make what stands for an error."""
    story = _story(error, why)
    return RemoteError(story.type_name, story.message, story.traceback_text, why)


def _packed_error(failure: Failure[object]) -> tuple[bytes | None, Story]:
    error = failure.error
    try:
        return pack(error), _story(error, "")
    except Exception as problem:
        return None, _story(error, f"it cannot be pickled: {_told(problem)}")


def _story(error: BaseException, why: str) -> Story:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Story(name, _told(error), _traceback_of(error), _notes_of(error), why)


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))[-LONGEST:]
    except Exception as problem:  # of a SyntaxError made by hand, for one
        return f"its traceback cannot be printed: {_told(problem)}"


def _notes_of(error: BaseException) -> tuple[str, ...]:
    """Read the notes: as plain text, but for a verdict. A class of its own might not arrive, nor let others arrive."""
    try:
        notes = getattr(error, "__notes__", None)
    except Exception:
        return ()
    texts = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return tuple(note if type(note) is Verdict else str.__str__(note) for note in texts)


def _told(error: BaseException) -> str:
    try:
        return str.__str__(str(error))  # plain: a class of its own might not arrive
    except Exception:
        return "an error that cannot be printed"


def value_of(packed: bytes) -> tuple[object, BaseException | None]:
    """Give back a value, or the error that stands for it because it cannot be unpickled here."""
    try:
        return unpack(packed), None
    except Exception as problem:
        return None, remote_error(problem, "the result cannot be unpickled here")


def error_of(packed: bytes | None, story: Story, worker: str) -> BaseException:
    """Give back the error that a job raised, with the worker's traceback as a note, or one that stands for it."""
    why = story.why
    if packed is not None:
        try:
            error = unpack(packed)
            if isinstance(error, BaseException):
                return _with_notes(error, story, worker)
            why = f"unpickled, it is {type(error).__name__}"
        except Exception as problem:
            why = f"it cannot be unpickled here: {_told(problem)}"
    standing = RemoteError(story.type_name, story.message, story.traceback_text, why)
    return _with_notes(standing, story, worker)


def _with_notes(error: BaseException, story: Story, worker: str) -> BaseException:
    """Put on an error what pickling leaves behind: notes such as a verdict, and where it was raised."""
    notes = [*story.notes, f"raised on the worker {worker}:\n{story.traceback_text}"]
    try:
        BaseException.__setattr__(error, "__notes__", notes)  # a frozen dataclass refuses add_note
    except Exception:
        error = RemoteError(story.type_name, story.message, story.traceback_text, "it takes no notes")
        error.__notes__ = notes
    return error


def unsendable(index: int, item: object, error: Exception) -> TypeError:
    """Make the error for an input that cannot be pickled."""
    return TypeError(
        f"input {index} cannot be pickled, and so not be sent to a worker: {error}; it is {safe_repr(item)}"
    )
