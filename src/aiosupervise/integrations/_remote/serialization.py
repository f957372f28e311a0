"""Serializes inputs, values and errors separately, so that an object that cannot be pickled does not affect the others.

An object can raise any exception when it is pickled, unpickled or printed, including SystemExit. Such an exception is
an error of one job. But a signal can raise the same exception at any moment, in order to end the process or the run.
`contain` distinguishes the two cases.
"""

from __future__ import annotations

import io
import pickle
import sys
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from types import FunctionType
from typing import Any, TypeAlias, TypeVar, final

import cloudpickle  # type: ignore[import-untyped]  # it has no types

from aiosupervise._call.frames import WRAPPERS
from aiosupervise._call.supervise import supervise
from aiosupervise._events.outcomes import Failure, Outcome, Pending, Success
from aiosupervise._policy.checks import error_text
from aiosupervise._policy.policy import Policy
from aiosupervise._policy.verdict import Reason, Verdict

A = TypeVar("A")
R = TypeVar("R")

OutcomePayload: TypeAlias = tuple[int, bytes | None, "ErrorDescription | None", int, float, Reason | None, bool]
"""An outcome in transit: position in the chunk, serialized value or error, description of the error, attempts, seconds,
reason, and whether a pending job had started. A success has no description; a pending job has neither value nor
description. It is a plain tuple, because there is one for each job, and pickle is several times slower with a class."""

# The maximum number of characters of a traceback that are sent, counted from its end. Without a bound, the traceback of
# an exception group with a RecursionError can have millions of characters.
MAX_TRACEBACK = 20_000


@final
class RemoteError(Exception):
    """Replaces the error or result of a job if it cannot be pickled on the worker, or unpickled on the driver.

    Attributes:
        type_name: the name of the error's class, with its module.
        message: the text of the error.
        traceback_text: the traceback of the error, as Python prints it.
        why: the reason for the replacement.
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
class ErrorDescription:
    """An error as text, which can always be sent."""

    type_name: str
    message: str
    traceback_text: str
    notes: tuple[str, ...]
    why: str = ""


def contain(func: Callable[[A], R], argument: A) -> R:
    """Call a function that runs an object's code, and convert an exit raised by the object into an error.

    An exception that is not an Exception is attributed to the object if a second call raises it again.

    Raises:
        RuntimeError: in place of the object's own SystemExit, KeyboardInterrupt, GeneratorExit or similar exception.
        BaseException: if a signal raises one during the first call, or the object raises an Exception.
    """
    try:
        return func(argument)
    except Exception:
        raise
    except BaseException as error:
        _raise_own(func, argument, type(error))
        raise


def _raise_own(func: Callable[[A], object], argument: A, kind: type[BaseException]) -> None:
    try:
        func(argument)
    except kind as error:
        raise RuntimeError(f"it raised {kind.__name__}") from error


def serialize(value: object) -> bytes:
    """Pickle a value, with the code of functions and classes that another process cannot import."""
    return contain(_serialize, value)


def _serialize(value: object) -> bytes:
    if cloudpickle.list_registry_pickle_by_value():
        return serialize_by_value(value)
    try:
        serialized = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:
        return serialize_by_value(value)
    return serialize_by_value(value) if b"__main__" in serialized else serialized


def serialize_by_value(value: object) -> bytes:
    """Pickle a value with cloudpickle, which includes the code that another process cannot import."""
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Reduces a supervised function to its policy and the undecorated function; the other process decorates it again.

    If the wrapper were pickled by value, the pickle would include a copy of this library's globals.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType) and not _is_importable(obj):
            policy = getattr(obj, "policy", None)
            # The wrapper of another decorator above `supervise` has the same attributes, but another code object.
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


def deserialize(serialized: bytes) -> Any:
    """Unpickle a value; errors raised by its class, or by the import of its class, propagate."""
    # The payload comes from a process that has already run the user's code.
    return contain(pickle.loads, serialized)


def outcome_payload(position: int, outcome: Outcome[object, object]) -> OutcomePayload:
    """Return the payload of an outcome."""
    if isinstance(outcome, Pending):
        return pending_payload(position, started=outcome.started)
    if isinstance(outcome, Success):
        try:
            return position, serialize(outcome.value), None, outcome.attempts, outcome.elapsed, None, True
        except Exception as error:
            description = _describe(error, f"the result, of type {type(outcome.value).__name__}, cannot be pickled")
            return position, None, description, outcome.attempts, outcome.elapsed, None, True
    serialized, description = _serialize_error(outcome)
    return position, serialized, description, outcome.attempts, outcome.elapsed, outcome.reason, True


def pending_payload(position: int, *, started: bool = False) -> OutcomePayload:
    """Return the payload of a job that was unfinished when the run ended."""
    return position, None, None, 0, 0.0, None, started


def failed_input_payload(position: int, error: Exception) -> OutcomePayload:
    """Return the payload of a job whose input cannot be unpickled."""
    return position, None, _describe(error, "the input cannot be unpickled on the worker"), 1, 0.0, None, True


def remote_error(error: BaseException, why: str) -> RemoteError:
    """Create the RemoteError that replaces an error."""
    return _stand_for(_describe(error), why)


def _stand_for(description: ErrorDescription, why: str) -> RemoteError:
    return RemoteError(description.type_name, description.message, description.traceback_text, why)


def _serialize_error(failure: Failure[object]) -> tuple[bytes | None, ErrorDescription]:
    error = failure.error
    try:
        return serialize(error), _describe(error)
    except Exception as problem:
        return None, _describe(error, f"it cannot be pickled: {text_of(problem)}")


def _describe(error: BaseException, why: str = "") -> ErrorDescription:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return ErrorDescription(name, message_of(error), _traceback_of(error), _notes_of(error), why)


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(contain(traceback.format_exception, error))[-MAX_TRACEBACK:]
    except Exception as problem:
        # This happens, for example, with a SyntaxError whose arguments have wrong types.
        return f"its traceback cannot be printed: {text_of(problem)}"


def _notes_of(error: BaseException) -> tuple[str, ...]:
    """Return the notes of an error; convert all of them except verdicts to plain str.

    A subclass of str might fail to unpickle, which would make the whole chunk fail.
    """
    try:
        notes = contain(attrgetter("__notes__"), error)
    except Exception:
        return ()
    texts = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    return tuple(note if type(note) is Verdict else str.__str__(note) for note in texts)


def text_of(error: BaseException) -> str:
    """Return the type and the message of an error, even if its class raises an error."""
    try:
        return contain(error_text, error)
    except Exception:
        # The class of the error may raise any error.
        return f"{type(error).__name__}: an error that cannot be printed"


def message_of(error: BaseException) -> str:
    """Return the text of an error as plain str, because a subclass might fail to unpickle."""
    try:
        return str.__str__(contain(str, error))
    except Exception:
        return "an error that cannot be printed"


def load_value(serialized: bytes) -> tuple[object, BaseException | None]:
    """Return the value of a success and None, or None and the error that replaces a value that cannot be unpickled."""
    try:
        return deserialize(serialized), None
    except Exception as problem:
        return None, remote_error(problem, "the result cannot be unpickled here")


def load_error(serialized: bytes | None, description: ErrorDescription, worker: str) -> BaseException:
    """Return the error that a job raised, or its replacement, with a note about the worker and the traceback."""
    why = description.why
    if serialized is not None:
        try:
            error = deserialize(serialized)
            if isinstance(error, BaseException):
                return _with_notes(error, description, worker)
            why = f"unpickled, it is {type(error).__name__}"
        except Exception as problem:
            why = f"it cannot be unpickled here: {text_of(problem)}"
    return _with_notes(_stand_for(description, why), description, worker)


def _with_notes(error: BaseException, description: ErrorDescription, worker: str) -> BaseException:
    """Add the information that pickle drops: notes such as the verdict, and the traceback."""
    notes = [*description.notes, f"raised on the worker {worker}:\n{description.traceback_text}"]
    try:
        # `add_note` would fail for an error that is a frozen dataclass.
        contain(partial(BaseException.__setattr__, error, "__notes__"), notes)
    except Exception:
        error = _stand_for(description, "it takes no notes")
        error.__notes__ = notes
    return error


def unpicklable_input(index: int, item: object, error: Exception) -> TypeError:
    """Create the error for an input that cannot be pickled."""
    rule = "cannot be pickled, so it cannot be sent to a worker"
    return TypeError(f"input {index} {rule}: {text_of(error)}; it is of type {type(item).__name__}")
