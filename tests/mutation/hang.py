"""A pytest plugin for mutmut: it selects tests, and a test that hangs, because of the mutant, ends as a timeout."""

import os
import signal
from collections.abc import Generator

import pytest

SELECTED = "AIOSUPERVISE_MUTATION_TESTS"  # the variable that says which tests: "core" or "integrations"
SECONDS = {"core": 10.0, "integrations": 15.0}  # real ones; the slowest tests take a third of that
TIMEOUT = 36  # the exit code by which mutmut knows a timeout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test its time, its set-up and clean-up included; mutmut's own limit is for all tests together."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMEOUT))
    signal.setitimer(signal.ITIMER_REAL, SECONDS[os.environ[SELECTED]])
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Select the tests, and refuse an id with an address in it.

    mutmut asks for tests by their ids, in a process of its own each time.
    """
    is_wanted = os.environ[SELECTED] == "integrations"
    items[:] = [item for item in items if item.nodeid.startswith("tests/integrations") is is_wanted]
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"this id changes from run to run, so mutmut cannot ask for it: {item.nodeid}")
