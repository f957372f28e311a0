"""The exceptions of the library, and the text of any error in a log."""

import asyncio
import pickle
from typing import Any

import pytest

from aiosupervise import AttemptTimeout, DeadlineExceeded, GiveUp, RestartsExceeded, RetryAfter
from aiosupervise._policy.checks import error_text
from aiosupervise._policy.errors import unwrap
from aiosupervise._policy.raw import leaves


@pytest.mark.parametrize(
    ("kind", "args", "shown"),
    [
        (GiveUp, ("no",), "GiveUp('no')"),
        (RetryAfter, (1.5,), "RetryAfter(1.5)"),
        (AttemptTimeout, (2.5,), "AttemptTimeout(2.5)"),
        (DeadlineExceeded, (3.5,), "DeadlineExceeded(3.5)"),
        (RestartsExceeded, ("it", (), 3, 5.0), "RestartsExceeded('it', (), 3, 5.0)"),
    ],
)
def test_an_error_prints_as_the_call_that_makes_it(kind: Any, args: tuple[Any, ...], shown: str) -> None:
    """It has all of its arguments, so that pickling it for another process loses nothing."""
    error = kind(*args)
    assert repr(error) == shown
    assert error.args == args
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(twin), twin.args, str(twin), vars(twin)) == (kind, error.args, str(error), vars(error))


GROUP = "ExceptionGroup: two (2 sub-exceptions): "
SHORT_LEAVES = "ExceptionGroup: many (40 sub-exceptions): " + "; ".join(["KeyError"] * 10)
LONG_GROUP = ("ExceptionGroup: many (40 sub-exceptions): " + "; ".join([f"OSError: {'x' * 51}"] * 10))[:316]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "ValueError"),
        (ValueError("caf\u00e9"), "ValueError: caf\u00e9"),
        (ValueError("caf\u00e9\n\x1b[31m"), "ValueError: caf\u00e9\\n\\x1b[31m"),
        (ValueError("x" * 400), f"ValueError: {'x' * 300}"),
        (ValueError("\n" * 400), "ValueError: " + "\\n" * 150),
        (ValueError("\x1b" * 400), "ValueError: " + "\\x1b" * 75),
        (ExceptionGroup("two", [OSError("a"), ExceptionGroup("", [KeyError()])]), GROUP + "OSError: a; KeyError"),
        (ExceptionGroup("many", [KeyError()] * 40), SHORT_LEAVES),
        (ExceptionGroup("many", [OSError("x" * 90)] * 40), LONG_GROUP),
    ],
    ids=[
        "no text",
        "letters",
        "control characters",
        "long",
        "long when escaped",
        "terminal codes",
        "group",
        "big group of short errors",
        "big group",
    ],
)
def test_the_text_of_an_error_is_one_bounded_line(error: Exception, text: str) -> None:
    """Characters that do not print are escaped, and no others; a group names its first ten leaves."""
    assert error_text(error) == text


def test_the_lines_of_an_error_are_joined_for_a_note() -> None:
    """A message of many lines, such as gRPC's, is shown in full; other unprintable characters are escaped."""
    error = ValueError("<RPC that ended with:\n\tstatus = 14\r\n\n\x1b>")
    assert error_text(error, join_lines=True) == "ValueError: <RPC that ended with: status = 14 \\x1b>"


def test_a_group_that_is_shared_is_visited_once() -> None:
    """Each of its leaves is returned once, and all leaves are in order."""
    first, last = ValueError(), LookupError()
    shared = ExceptionGroup("shared", [first])
    assert [*leaves(ExceptionGroup("outer", [shared, ExceptionGroup("inner", [shared, last]), shared]))] == [
        first,
        last,
    ]


def test_a_group_that_is_shared_is_derived_once() -> None:
    """Both members of the outer group stay the same object."""
    derived = []

    class Counted(ExceptionGroup[Exception]):
        def derive(self, excs: Any) -> Any:
            derived.append(self.message)
            return Counted(self.message, excs)

    given_up = GiveUp()
    given_up.__cause__ = ValueError("no")
    shared = Counted("shared", [given_up])
    outer = unwrap(Counted("outer", [shared, shared]))
    assert isinstance(outer, Counted)
    assert outer.exceptions[0] is outer.exceptions[1]
    assert derived == ["shared", "outer"]


def test_an_error_whose_cause_contains_it_stands_for_that_cause() -> None:
    """In such a circle, the inner one stays as it is."""
    given_up = GiveUp()
    group = ExceptionGroup("circle", [given_up])
    given_up.__cause__ = group
    assert unwrap(given_up) is group
    assert group.exceptions == (given_up,)


def test_errors_that_stand_for_each_other() -> None:
    """In such a circle, each is replaced by the other."""
    one, other = GiveUp("one"), GiveUp("other")
    one.__cause__, other.__cause__ = other, one
    assert unwrap(one) is other


def test_an_error_stands_for_no_cancellation() -> None:
    """A CancelledError that was being handled is not an error of the call, so GiveUp stands for itself."""
    given_up = GiveUp()
    given_up.__context__ = asyncio.CancelledError()
    assert unwrap(given_up) is given_up
