"""Handles calls of `run_all` and `map_all` with invalid arguments.

The coroutines among the arguments are closed, because Python would otherwise warn that they were never awaited. For
common mistakes, the error shows the correct call; Python's own message about a wrong signature does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import ParamSpec, TypeVar

from .jobs import discard
from .source import COLLECTIONS

P = ParamSpec("P")
R = TypeVar("R")
_OF_MAP_ALL = ("journal", "group_by", "limit_per_group", "engine")


def guarded(func: Callable[P, R]) -> Callable[P, R]:
    """Return a wrapper of the function that handles invalid calls."""

    @functools.wraps(func)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return func(*args, **keywords)
        except BaseException as error:
            _clean_up(func.__name__, (*args, *keywords.values()))
            if isinstance(error, TypeError) and (message := _message(error, func.__name__, len(args), keywords)):
                raise TypeError(message) from None
            raise

    return call


def _clean_up(name: str, arguments: Sequence[object]) -> None:
    """Close the coroutines among the arguments, and those in collections of jobs; inputs belong to the user."""
    for argument in arguments:
        for item in argument if name == "run_all" and isinstance(argument, COLLECTIONS) else (argument,):
            discard(item)


def _message(error: TypeError, name: str, count: int, keywords: Collection[str]) -> str:
    """Return a message that shows the correct call for a wrong signature; empty if there is no suggestion."""
    traceback = error.__traceback__
    # If the function was entered, it has raised the error itself.
    if traceback is not None and traceback.tb_next is not None:
        return ""
    if "return_exceptions" in keywords:
        return (
            f"{name} has no return_exceptions, since a failed job does not raise: its error is in report.failed; "
            f"report.values() raises if anything failed, as gather does"
        )
    if name == "run_all" and (missing := next((key for key in keywords if key in _OF_MAP_ALL), None)):
        return (
            f"run_all has no {missing}, which needs the function and the input of each job: write "
            f"map_all(func, inputs, {missing}=...)"
        )
    if name == "run_all" and count > 1:
        return (
            f"run_all takes one iterable of jobs; got {count} arguments: put jobs into a list, "
            f"run_all([fetch(1), fetch(2)]), and name all other arguments, as in run_all(jobs, limit=10)"
        )
    if name == "map_all" and count > 2:  # noqa: PLR2004 - the function and the inputs
        return (
            f"map_all takes a function of one argument and one iterable of inputs; got {count} arguments: for a "
            f"function of several write run_all(itertools.starmap(func, zip(first, second))), and name all other "
            f"arguments, as in map_all(func, inputs, limit=10)"
        )
    return ""
