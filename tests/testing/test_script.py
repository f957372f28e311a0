"""`script`: an async function that does its steps in turn and records its calls."""

import asyncio
import contextlib
import functools
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine
from unittest.mock import ANY, call

import pytest

from aiosupervise import Failure, Policy, map_all, run_all, supervise
from aiosupervise.testing import Script, ScriptEnded, script

EAGER = Policy(retry_on=Exception, backoff=[0], max_retries=9)


class Refused(Exception):  # noqa: N818 - a name to be seen in texts
    def __init__(self, status: int) -> None:
        super().__init__(status)


class Strange(Exception):  # noqa: N818
    def __init__(self) -> None:
        raise RuntimeError("broken")


async def test_steps_come_in_turn() -> None:
    """Classes and instances of errors are raised, anything else is returned, None and other classes too."""
    refused = Refused(503)
    steps = script(ConnectionError, refused, "ok", None, int)
    with pytest.raises(ConnectionError) as raised:
        await steps()
    assert raised.value.args == ()
    with pytest.raises(Refused) as raised_as_it_is:
        await steps()
    assert raised_as_it_is.value is refused
    assert [await steps(), await steps(), await steps()] == ["ok", None, int]


@pytest.mark.parametrize("step", [asyncio.CancelledError, KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_what_is_no_exception_can_be_a_step(step: type[BaseException] | BaseException) -> None:
    """Cancellation and exit are raised like errors."""
    kind = step if isinstance(step, type) else type(step)
    with pytest.raises(kind):
        await script(step)()


async def test_calls_are_recorded() -> None:
    """`calls` compares with `unittest.mock.call`, in the order of the calls, those that fail included."""
    fetch = script(ConnectionError, "ok", "ok")
    assert fetch.calls == []
    with pytest.raises(ConnectionError):
        await fetch("a")
    await fetch("b", timeout=3)
    await fetch(object())
    assert fetch.calls == [call("a"), call("b", timeout=3), call(ANY)]
    assert fetch.calls[1].args == ("b",)
    assert fetch.calls[1].kwargs == {"timeout": 3}


async def test_a_call_too_many_says_so() -> None:
    """The text has the number of steps, and the error has the call that was too many, whose arguments may be secret."""
    fetch = script(ConnectionError, "ok")
    assert await supervise(EAGER)(fetch)("a") == "ok"
    text = (
        r"the script has 2 steps, which were done when another call was made .*`last`.: give script\(...\) one for each"
    )
    with pytest.raises(ScriptEnded, match=text) as raised:
        await fetch("b", n=1)
    assert (raised.value.steps, raised.value.last) == raised.value.args == (2, call("b", n=1))
    with pytest.raises(ScriptEnded, match="has 2 steps, which were done when another call was made"):
        await fetch()
    with pytest.raises(ScriptEnded, match="has 1 step, which was done when"):
        await supervise(EAGER)(script(ConnectionError))()


async def test_a_script_without_steps_must_not_be_called() -> None:
    """Any call is one too many."""
    with pytest.raises(ScriptEnded, match="has 0 steps"):
        await script()()


async def test_a_call_too_many_is_not_retried_away() -> None:
    """A policy that retries every Exception, and code that catches every Exception, let it through."""
    fetch = script(ConnectionError, ConnectionError)

    async def catch_all() -> None:
        with contextlib.suppress(Exception):
            await supervise(EAGER)(fetch)()

    with pytest.raises(ScriptEnded):
        await catch_all()
    assert len(fetch.calls) == 3


async def test_a_call_too_many_in_a_run_is_a_failure_that_values_raises() -> None:
    """A run keeps it as it keeps any error of a job, and `values()` does not hide it among Exceptions."""
    jobs: list[Script[str]] = [script("ok"), script()]
    report = await run_all(jobs)
    assert isinstance(report[1], Failure)
    assert isinstance(report[1].error, ScriptEnded)
    with pytest.raises(BaseExceptionGroup) as raised:
        report.values()
    assert not isinstance(raised.value, Exception)


async def test_it_serves_all_levels() -> None:
    """`supervise`, `run_all` and `map_all` take a script as an async function, by the name `script`."""
    fetch = script(ConnectionError, 1, 2, 3, 4)
    supervised = supervise(EAGER)(fetch)
    assert supervised.__name__ == "script"
    assert inspect.iscoroutinefunction(supervised)
    assert inspect.unwrap(supervised) is fetch
    alternately: list[Callable[[], Coroutine[object, None, int]]] = [supervised, fetch]
    report = await run_all(alternately, limit=1)
    assert report.values() == [1, 2]
    assert [outcome.name for outcome in report] == ["script-0", "script-1"]
    assert (await map_all(fetch, ["a", "b"])).values() == [3, 4]
    assert fetch.calls == [call(), call(), call(), call("a"), call("b")]


def test_other_decorators_copy_its_names() -> None:
    """`functools.wraps` copies the names of a script like those of a function."""

    @functools.wraps(script())
    async def wrapper() -> None: ...

    assert wrapper.__name__ == wrapper.__qualname__ == "script"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (
            Refused,
            r"step 2 of the script cannot be created without arguments: .*status.*; give an instance, Refused\(",
        ),
        (Strange, "step 2 of the script cannot be created without arguments: broken"),
        (ExceptionGroup, "step 2 of the script cannot be created without arguments"),
    ],
)
def test_a_class_that_needs_arguments_is_refused_at_once(step: type[Exception], text: str) -> None:
    """The error comes when the script is made, not when the step is done, and names the step."""
    with pytest.raises(TypeError, match=text) as raised:
        script("ok", step)
    assert raised.value.__cause__ is not None


async def test_it_tells_how_far_it_is() -> None:
    """The repr counts the steps."""
    fetch = script("a", "b")
    await fetch()
    assert repr(fetch) == "<script: 1 of 2 steps done>"


async def test_steps_that_are_done_are_released() -> None:
    """An error that was raised is referenced neither by the script nor by its own frames."""

    async def use(fetch: Script[str]) -> "weakref.ref[BaseException]":
        try:
            await fetch()
        except Refused as error:
            return weakref.ref(error)
        pytest.fail("it did not raise")

    gc.collect()
    gc.disable()
    try:
        fetch: Script[str] = script(Refused(1), "ok")
        assert (await use(fetch))() is None
    finally:
        gc.enable()


def test_a_script_as_a_plain_function() -> None:
    """Its method `plain` does the same steps in turn, and records the calls with the others."""
    load = script(ConnectionError, "ok")
    assert supervise(EAGER)(load.plain)("a", n=1) == "ok"
    assert load.calls == [call("a", n=1), call("a", n=1)]
    with pytest.raises(ScriptEnded, match="has 2 steps"):
        load.plain()
