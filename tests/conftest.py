"""Shared by all tests: how thorough a run is, and what it counted."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator

import hypothesis
import pytest

COUNTS: pytest.StashKey["Counter[str]"] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the whole of what an ordinary run does a part of; the nox sessions that take minutes ask for it."""
    parser.addoption("--thorough", action="store_true", help="sweep every pair of steps, 10,000 examples, big runs")


def pytest_configure(config: pytest.Config) -> None:
    """Say that there is no current loop: looptime asks for one before each test, and asking alone would warn."""
    asyncio.set_event_loop(None)
    config.stash[COUNTS] = Counter()
    # An ordinary run tries the same examples each time, so that it fails only for who changed something.
    hypothesis.settings.register_profile("ordinary", derandomize=True, deadline=None)
    hypothesis.settings.register_profile("thorough", max_examples=10_000, deadline=None)
    hypothesis.settings.load_profile("thorough" if config.getoption("--thorough") else "ordinary")


@pytest.fixture(scope="module", autouse=True)
def young_heap() -> None:
    """Spare the garbage collector what is there already, so that each of the many looks for cycles is quick."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What only the collector could free at the end of the test."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was counted, for the page that tells how the project is tested."""
    for what, count in sorted(config.stash[COUNTS].items()):
        terminalreporter.write_line(f"counted: {what}: {count:,}")


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether this run is asked to do everything."""
    return bool(pytestconfig.getoption("--thorough"))


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> "Counter[str]":
    """What tests count, to be printed at the end of the run."""
    return pytestconfig.stash[COUNTS]
