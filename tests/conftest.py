"""Shared by all tests."""

import asyncio


def pytest_configure() -> None:
    """Say that there is no current loop: looptime asks for one before each test, and asking alone would warn."""
    asyncio.set_event_loop(None)
