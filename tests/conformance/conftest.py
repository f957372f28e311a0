"""Shared by the tests that run something step by step."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(autouse=True)
def _untraced(untraced: None) -> None:
    """Leave coverage to the tests of the parts: these run whole programs, thousands of times."""


@pytest.fixture(autouse=True)
def _young_heap() -> None:
    """Exclude existing objects from garbage collection before each test, because a sweep collects hundreds of times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _without_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the formatting of tracebacks: pytest keeps all log records, and would format thousands of tracebacks."""
    monkeypatch.setattr(logging.Formatter, "formatException", lambda *_: "(traceback left out)")


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the kind that the test asks for."""
    make: Callable[[], asyncio.AbstractEventLoop] = request.param
    loop = make()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
