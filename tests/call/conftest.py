"""Fixtures of the tests of calls."""

import pytest

from .forms import FORMS, Supervise, in_form


@pytest.fixture(params=FORMS)
def supervise(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Supervise:
    """`supervise`, in each of the four forms of supervised code."""
    return in_form(request.param, monkeypatch)
