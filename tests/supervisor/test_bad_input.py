"""Bad input: each error names the argument, the rule, and the repair."""

import asyncio
import math
from typing import Any

import pytest

from aiosupervise import Supervisor

from .scene import Scene, nothing_left

pytestmark = pytest.mark.looptime


async def poll() -> None:
    """A child."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        (
            {"strategy": "all"},
            ValueError,
            "strategy must be 'one_for_one', 'one_for_all', 'rest_for_one' or 'simple_one_for_one'; got 'all'",
        ),
        ({"max_restarts": -1}, ValueError, "max_restarts must be an integer of at least 0, or None"),
        ({"max_restarts": 1.5}, TypeError, "max_restarts must be an int"),
        ({"within": 0}, ValueError, "within must be a finite number of seconds, above 0"),
        ({"within": -1}, ValueError, "within must be"),
        ({"within": math.nan}, ValueError, "within must be"),
        ({"within": None}, TypeError, "within must be"),
        ({"reset_after": 0}, ValueError, "reset_after must be a finite number of seconds, above 0"),
        ({"reset_after": None}, TypeError, "reset_after must be"),
        ({"stop_on": "SIGINT"}, TypeError, "stop_on must be a collection of signals"),
        ({"backoff": 3}, TypeError, "backoff must be"),
        ({"backoff": []}, ValueError, "backoff must have at least one delay"),
        ({"grace": -1}, ValueError, "grace must be a finite number of seconds, 0 or more"),
        ({"grace": math.nan}, ValueError, "grace must be"),
        ({"grace": math.inf}, ValueError, "grace must be"),
        ({"grace": None}, TypeError, "grace must be"),
        ({"name": 3}, TypeError, "name must be a str"),
    ],
)
def test_a_supervisor_rejects_invalid_arguments(settings: Any, kind: type[Exception], words: str) -> None:
    """The error is raised at construction, before anything starts."""
    with pytest.raises(kind, match=words):
        Supervisor(**settings)


@pytest.mark.parametrize(
    ("func", "words"),
    [
        (print, r"func must be an async function; got print, which is not async: write `async def print`"),
        (3, "func must be an async function; got 3"),
        (Scene, "got Scene, which is not async"),
    ],
)
async def test_start_rejects_a_function_that_is_not_async(func: Any, words: str) -> None:
    """The error says what to write instead."""
    async with Supervisor() as sup:
        with pytest.raises(TypeError, match=words):
            sup.start(func)


async def test_start_rejects_a_coroutine_and_closes_it() -> None:
    """A coroutine cannot be restarted; nothing warns that it was never awaited."""
    async with Supervisor() as sup:
        coroutine: Any = poll()
        with pytest.raises(TypeError, match=r"a coroutine, .*: write sup.start\(poll, ...\) instead of"):
            sup.start(coroutine)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"restart": "always"}, ValueError, "restart must be 'permanent', 'transient' or 'temporary'; got 'always'"),
        ({"name": 3}, TypeError, "name must be a str"),
        ({"grace": -1}, ValueError, "grace must be"),
        ({"grace": math.nan}, ValueError, "grace must be"),
        (
            {"ready": 0},
            ValueError,
            "ready must be a finite number of seconds, above 0, or None for a child that need not",
        ),
        ({"ready": math.inf}, ValueError, "ready must be"),
        ({"ready": True}, TypeError, "ready must be"),
        ({"heartbeat": 0}, ValueError, r"heartbeat must be .*, or None for a child that need not call alive\(\)"),
        ({"heartbeat": "1"}, TypeError, "heartbeat must be"),
        (
            {"name": "taken"},
            ValueError,
            "name must be unique among .* of <Supervisor .*>; got taken, which is taken",
        ),
    ],
)
async def test_start_rejects_invalid_arguments(settings: Any, kind: type[Exception], words: str) -> None:
    """No child is added."""
    async with Supervisor() as sup:
        sup.start(poll, name="taken")
        with pytest.raises(kind, match=words):
            sup.start(poll, **settings)
        assert len(sup.children()) == 1
        sup.stop()


async def test_a_supervisor_that_is_not_entered_says_how() -> None:
    """Outside of its block it cannot start, stop or wait for children."""
    sup = Supervisor(name="web")
    assert repr(sup) == "<Supervisor web: not entered>"
    assert sup.children() == ()
    words = r"<Supervisor web: not entered> has not been entered: use it in `async with Supervisor\(...\) as sup:`"
    with pytest.raises(RuntimeError, match=words):
        sup.start(poll)
    with pytest.raises(RuntimeError, match=words):
        sup.stop()
    with pytest.raises(RuntimeError, match=words):
        await sup.wait()


async def test_a_supervisor_is_used_once() -> None:
    """Entering it again, in its block or after it, is an error."""
    with nothing_left():
        async with Supervisor() as sup:
            sup.start(poll)
            assert repr(sup) == "<Supervisor supervisor: 1 of 1 children alive>"
            with pytest.raises(RuntimeError, match="entered again: a supervisor is used once; create a new one"):
                await sup.__aenter__()
            sup.stop()
        assert repr(sup) == "<Supervisor supervisor: 0 of 1 children alive, stopped>"
        with pytest.raises(RuntimeError, match="used once"):
            await sup.__aenter__()
