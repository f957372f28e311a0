"""What `import aiosupervise` imports: every program that uses the library pays for it when it starts."""

import json
import subprocess
import sys

import pytest

import aiosupervise

ADDED = """
import asyncio, json, sys
before = set(sys.modules)
import aiosupervise
{}
print(json.dumps([name for name in sys.modules if name not in before]))
"""

# With the standard library's own accelerators, whose names differ from one Python to the next.
STANDARD = {"__future__", "bisect", "datetime", "random"}
ACCELERATORS = {"_bisect", "_datetime", "_pydatetime", "_random", "_sha2", "_sha512"}
BACKPORTS = set[str]() if sys.version_info >= (3, 13) else {"typing_extensions"}
CALLS = {"_call", "_events", "_policy"}


def run(program: str) -> str:
    """The output of a program in a process of its own, which finds the same modules."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def added(first_use: str = "") -> set[str]:
    """The modules that are imported by `import aiosupervise`, and by this first use of a name."""
    return set(json.loads(run(ADDED.format(first_use))))


def ours(modules: set[str]) -> set[str]:
    """Those of the library, without its name."""
    return {name.partition(".")[2] for name in modules if name.startswith("aiosupervise.")}


def rooms(modules: set[str]) -> set[str]:
    """The packages of the library that they are in."""
    return {name.partition(".")[0] for name in ours(modules)}


def test_an_import_takes_little_from_the_standard_library_and_nothing_from_others() -> None:
    """Beside asyncio and json; `dataclasses`, SQLite, pickle and the extras are imported by those who use them."""
    for first_use in ("", "from aiosupervise import *"):
        others = {name for name in added(first_use) if name.partition(".")[0] != "aiosupervise"}
        assert others - ACCELERATORS <= STANDARD | BACKPORTS


def test_an_import_takes_only_the_level_of_calls() -> None:
    """Batches, supervisors, the integrations and the tools for tests are imported by those who use them."""
    assert rooms(added()) == CALLS


@pytest.mark.parametrize(("name", "room"), [("map_all", "_batch"), ("Supervisor", "_supervisor")])
def test_the_first_use_of_a_name_imports_its_level(name: str, room: str) -> None:
    """And not the other one; of the journal, only what the arguments need."""
    modules = added(f"aiosupervise.{name}")
    assert rooms(modules) == {*CALLS, room}
    assert {name for name in ours(modules) if name.startswith("_batch._journal.")} <= {"_batch._journal.journal"}


IN_ODD_PLACES = """
import asyncio, pickle, signal, threading
import aiosupervise
assert set(aiosupervise.__all__) <= set(dir(aiosupervise)) and "Run" not in vars(aiosupervise)

seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(aiosupervise.ready))
signal.raise_signal(signal.SIGINT)
assert seen == [aiosupervise.ready]

barrier = threading.Barrier(4)
def first_use(name):
    barrier.wait()
    return getattr(aiosupervise, name)
async def main():
    names = ("map_all", "run_all", "Run", "Overload")
    return await asyncio.gather(*(asyncio.to_thread(first_use, name) for name in names))
assert asyncio.run(main())[2] is aiosupervise.Run is pickle.loads(b"caiosupervise\\nRun\\n.")
print("seen")
"""


def test_a_name_can_be_used_first_anywhere() -> None:
    """In a signal handler, and in several threads beside a running event loop; `dir` has the name before."""
    assert run(IN_ODD_PLACES) == "seen\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """With the message of any other module."""
    with pytest.raises(AttributeError, match=r"^module 'aiosupervise' has no attribute 'map_al'$"):
        _ = aiosupervise.map_al  # type: ignore[attr-defined]


def test_a_name_that_a_program_replaced_stays_replaced() -> None:
    """Importing the level of a name leaves the other names of the level as they are."""
    program = "import aiosupervise\naiosupervise.run_all = 'mine'\naiosupervise.Report\nprint(aiosupervise.run_all)"
    assert run(program).strip() == "mine"
