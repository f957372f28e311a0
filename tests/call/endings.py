"""How a call ended, for tests that expect it to fail."""

from collections.abc import Coroutine

import pytest

from aiosupervise import Verdict, verdict


async def error_of(call: Coroutine[object, None, object]) -> Exception:
    """The error that a call ends with."""
    try:
        await call
    except Exception as error:
        return error
    pytest.fail("the call succeeded")


def verdict_of(error: Exception) -> Verdict:
    """The verdict, which is there."""
    given_up = verdict(error)
    assert given_up is not None
    return given_up
