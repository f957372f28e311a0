"""How a call ended, for tests that expect it to fail."""

from collections.abc import Coroutine

import pytest

from aiosupervise import Verdict, verdict


async def error_of(call: Coroutine[object, None, object]) -> Exception:
    """Return the error with which a call ends."""
    try:
        await call
    except Exception as error:
        return error
    pytest.fail("the call succeeded")


def verdict_of(error: Exception) -> Verdict:
    """Return the verdict on an error, which must have one."""
    given_up = verdict(error)
    assert given_up is not None
    return given_up
