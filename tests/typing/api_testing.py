"""Uses the whole of aiosupervise.testing, and never runs: mypy --strict and pyright read it."""

from typing import Never, assert_type
from unittest.mock import call

from aiosupervise import Policy, Run, map_all, run_all, supervise
from aiosupervise.testing import Faults, Script, ScriptEnded, no_waiting, script

policy = Policy(retry_on=ConnectionError)


def blocks() -> int:
    with no_waiting():
        pass
    with no_waiting(max_retries=None), no_waiting(max_retries=3) as nothing:
        assert_type(nothing, None)
        return 1  # the block hides no error, so that nothing need follow it


async def scripts() -> None:
    assert_type(await script(ConnectionError, "ok")(), str)
    assert_type(await script(ConnectionError, TimeoutError, None)(), None)
    fetch = script(ConnectionError, "ok")
    assert_type(fetch, Script[str])
    assert_type(await fetch("any", arguments=1), str)
    assert_type(fetch.calls == [call("any", arguments=1)], bool)
    assert_type(len(fetch.calls[0].args), int)
    assert_type(await supervise(policy)(fetch)("a", b=2), str)
    assert_type(run_all([fetch, fetch]), Run[str])
    assert_type(map_all(fetch, [1, 2]), Run[str, int])
    of_instances: Script[str] = script(ConnectionError("dropped"), "ok")
    only_errors = script(ConnectionError, TimeoutError("slow"))
    assert_type(only_errors, Script[Never])
    assert_type(script(), Script[Never])
    several: list[Script[str]] = [of_instances, only_errors, fetch]
    assert_type(run_all(several), Run[str])


def ended(error: ScriptEnded) -> None:
    assert_type(error.steps, int)
    assert_type(error.last == call(), bool)


class Client:
    async def get(self, url: str, *, times: int = 1) -> list[str]:
        return [url] * times

    @supervise(policy)
    @Faults(0.5, seed=3)
    async def post(self, url: str) -> int:
        return len(url)


async def faults() -> None:
    faults = Faults(0.2, (ConnectionError, TimeoutError), seed=1)
    assert_type(faults.injected + faults.calls, int)
    flaky = faults(Client().get)
    assert_type(await flaky("url", times=2), list[str])
    await flaky(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - arguments are checked
    assert_type(await supervise(policy)(flaky)("url", times=2), list[str])
    assert_type(await supervise(policy)(faults(Client().post))("url"), int)
    assert_type(await Client().post("url"), int)
    assert_type(faults(len)("text"), int)
    assert_type(supervise(policy)(script(OSError, "ok").plain)("a", b=2), str)
    Faults(1, OSError, seed=0)(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - no function
