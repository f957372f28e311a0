"""Shared by the tests that run something step by step."""

import asyncio
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the kind that the test asks for."""
    make: Callable[[], asyncio.AbstractEventLoop] = request.param
    loop = make()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
