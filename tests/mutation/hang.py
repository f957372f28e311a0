"""A pytest plugin for mutmut: a test that hangs, because the mutant made it hang, ends the run as a timeout."""

import os
import signal
from collections.abc import Generator

import pytest

SECONDS = 12.0  # real ones; the slowest test takes about three, to start a cluster
TIMEOUT = 36  # the exit code by which mutmut knows a timeout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Give each test its time, its set-up and clean-up included; mutmut's own limit is for all tests together."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMEOUT))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse an id with an address in it: mutmut asks for tests by their ids, in a process of its own each time."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"this id changes from run to run, so mutmut cannot ask for it: {item.nodeid}")
