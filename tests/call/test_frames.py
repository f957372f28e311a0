"""The library's own frames: which code objects are registered, and so recognized in stacks and tracebacks."""

import sys
from types import ModuleType
from typing import Any

import pytest

from aiosupervise import Policy, supervise
from aiosupervise._call import frames

SOURCE = """
from inspect import unwrap as imported

def function(): ...

class Loop:
    limit = 3

    def method(self): ...
    async def run(self): ...
    decorated = imported

value = 3
"""


def by_id(*functions: Any) -> dict[int, object]:
    """The code objects of functions, as a registry keeps them."""
    return {id(function.__code__): function.__code__ for function in functions}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that has not registered anything, and empty registries."""
    made_up = ModuleType("made_up")
    exec(SOURCE, vars(made_up))  # noqa: S102
    monkeypatch.setitem(sys.modules, "made_up", made_up)
    for name in ("WRAPPERS", "LAYERS", "RETRY_LOOP", "INTERNALS"):
        monkeypatch.setattr(frames, name, {})
    return made_up


def test_a_module_registers_the_functions_that_it_defines(module: Any) -> None:
    """Its functions and methods are registered, async ones included, but not imported ones."""
    frames.register_module("made_up")
    assert by_id(module.function, module.Loop.method, module.Loop.run) == frames.INTERNALS
    assert frames.WRAPPERS == frames.RETRY_LOOP == {}


def test_a_retry_loop_registers_its_methods(module: Any) -> None:
    """The methods of the class are registered; `attempt()` uses their `self` as the call."""
    frames.register_retry_loop(module.Loop)
    assert by_id(module.Loop.method, module.Loop.run) == frames.RETRY_LOOP


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("deadline", [None, 5.0], ids=["plain", "limited"])
def test_a_wrapper_registers_its_code(deadline: float | None) -> None:
    """The wrappers of one kind share their code, which is registered once."""
    policy = Policy(retry_on=OSError, deadline=deadline)

    async def fetch() -> None:
        """Succeed."""

    wrappers = [supervise(policy)(fetch) for _ in range(2)]
    assert by_id(wrappers[0]) == by_id(*wrappers) == frames.WRAPPERS == frames.LAYERS == frames.INTERNALS


def test_a_layer_registers_its_code(module: Any) -> None:
    """The function that ends a block is a layer through which final errors propagate, but not a wrapper."""
    frames.register_layer(module.function.__code__)
    assert by_id(module.function) == frames.LAYERS
    assert frames.WRAPPERS == {}


def test_the_library_registers_itself() -> None:
    """The methods of the real loop are internal, and wrappers are not part of the loop."""
    assert frames.RETRY_LOOP
    assert not frames.RETRY_LOOP.keys() - frames.INTERNALS.keys()
    assert not frames.RETRY_LOOP.keys() & frames.WRAPPERS.keys()
