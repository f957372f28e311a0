"""The first error of a run: it is kept, and given to the caller once."""

import pytest

from aiosupervise._batch.first_error import FirstError


def test_the_first_error_is_raised_once() -> None:
    """Later errors are dropped, and it is raised at the first request only."""
    first_error = FirstError()
    first_error.raise_once()
    for error in (None, LookupError("first"), LookupError("second")):
        first_error.keep(error)
    with pytest.raises(LookupError, match="first"):
        first_error.raise_once()
    first_error.raise_once()


def test_an_error_that_became_a_note_is_dropped() -> None:
    """It is not raised any more, and the next error is the first one."""
    first_error = FirstError()
    first_error.keep(LookupError("first"))
    first_error.note_on(ValueError("other"))
    first_error.raise_once()
    first_error.keep(LookupError("next"))
    with pytest.raises(LookupError, match="next"):
        first_error.raise_once()
