"""The settings of overload protection: what they are by default, and what is refused."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from aiosupervise import Budget, Overload, map_all, run_all

from .service import Service


def test_the_defaults() -> None:
    """A fresh budget, pause, half a second at first, 20 at last, 8 probes; a frozen value."""
    setting = Overload()
    assert dataclasses.astuple(setting) == (None, "pause", 0.5, 20.0, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setting.probes = 3  # type: ignore[misc]  # the mistake in question


NO_SECONDS: list[tuple[object, type[Exception]]] = [
    (0, ValueError),
    (-1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (10**400, ValueError),
    (True, TypeError),
    (None, TypeError),
    ("1", TypeError),
]
NO_COUNT: list[tuple[object, type[Exception]]] = [
    (0, ValueError),
    (-1, ValueError),
    (2.5, TypeError),
    (math.nan, TypeError),
    (True, TypeError),
    (None, TypeError),
    ("8", TypeError),
]
BAD: list[tuple[dict[str, object], type[Exception], list[str]]] = [
    ({"budget": Budget}, TypeError, ["budget must be a Budget", "Budget'>"]),
    ({"budget": 500}, TypeError, ["budget must be a Budget", "500"]),
    ({"budget": True}, TypeError, ["budget must be a Budget", "True"]),
    ({"when_exhausted": "stop"}, ValueError, ["when_exhausted", '"pause" or "fail"', "'stop'"]),
    ({"when_exhausted": None}, ValueError, ["when_exhausted", '"pause" or "fail"', "None"]),
    ({"when_exhausted": True}, ValueError, ["when_exhausted", '"pause" or "fail"', "True"]),
    ({"first_pause": 21.0}, ValueError, ["longest_pause must be at least first_pause", "21.0", "20.0"]),
    ({"longest_pause": 0.1}, ValueError, ["longest_pause must be at least first_pause", "0.5", "0.1"]),
    *(
        ({name: value}, kind, [name, "finite number of seconds, above 0", repr(value)[:20]])
        for name in ("first_pause", "longest_pause")
        for value, kind in NO_SECONDS
    ),
    *(({"probes": value}, kind, ["probes", "integer of at least 1", repr(value)]) for value, kind in NO_COUNT),
]


@pytest.mark.parametrize(("options", "kind", "words"), BAD, ids=[str(options)[:40] for options, _, _ in BAD])
def test_a_bad_setting_is_refused(options: dict[str, object], kind: type[Exception], words: list[str]) -> None:
    """The error names the argument, the rule and what was given."""
    make: Callable[..., Overload] = Overload
    with pytest.raises(kind, match=r"^(budget|when_exhausted|first_pause|longest_pause|probes) must be ") as caught:
        make(**options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("value", [Overload, True, False, "pause", Budget(), 3], ids=repr)
def test_a_run_takes_only_an_overload(value: Any) -> None:
    """The class alone, a Budget, a bool: each is refused at once, and the coroutines of a list are closed."""
    service = Service()
    with pytest.raises(TypeError, match=r"overload must be an Overload\(\.\.\.\), or None") as caught:
        run_all([service(1), service(2)], overload=value)
    shown = "a value of type Budget" if isinstance(value, Budget) else repr(value)
    assert shown in str(caught.value)
    with pytest.raises(TypeError, match="overload must be an Overload"):
        map_all(service, [1], overload=value)
