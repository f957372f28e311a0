"""A twin: the Python side of an Erlang program, which says the same, or in a difference something else."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeAlias

import looptime

from .scene import Scene

Play: TypeAlias = Callable[[Scene], Coroutine[object, None, None]]


@dataclass(frozen=True)
class Twin:
    """A program, and the row of a table that it is for.

    Attributes:
        name: the name of the program in both languages.
        title: the first cell of its row.
        difference: the row of the table "What behaves differently" that it is for; None if both sides say the same.
        play: the Python side.

    """

    name: str
    title: str
    difference: str | None
    play: Play

    def said(self) -> list[str]:
        """Return the lines that the Python side says, in virtual time."""
        scene = Scene()
        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            runner.run(self.play(scene))
        return scene.lines


TWINS: dict[str, Twin] = {}
"""By name; `twins` has all of them."""


def same(play: Play) -> Play:
    """Add the twin of a program that says the same in both languages."""
    return _add(play, None)


def differs(difference: str) -> Callable[[Play], Play]:
    """Add the twin of a program that shows this difference."""
    return lambda play: _add(play, difference)


def _add(play: Play, difference: str | None) -> Play:
    name, title = getattr(play, "__name__", ""), (play.__doc__ or "").removesuffix(".")
    assert name not in TWINS
    TWINS[name] = Twin(name, title, difference, play)
    return play
