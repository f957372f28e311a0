"""The public names: all there, all documented, all at home in `aiosupervise`."""

import inspect
import types

import pytest

import aiosupervise

OBJECTS = [name for name in aiosupervise.__all__ if inspect.isclass(getattr(aiosupervise, name, None))]
OBJECTS += [name for name in aiosupervise.__all__ if inspect.isfunction(getattr(aiosupervise, name, None))]


@pytest.mark.parametrize("name", aiosupervise.__all__)
def test_listed_names_exist(name: str) -> None:
    """Every name in `__all__` is there."""
    assert hasattr(aiosupervise, name)


def test_nothing_public_is_missing_from_the_list() -> None:
    """`__all__` is sorted and has every public name of the package; submodules are no part of it."""
    public = {
        name
        for name, thing in vars(aiosupervise).items()
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    assert public == set(aiosupervise.__all__)
    assert sorted(aiosupervise.__all__) == aiosupervise.__all__


def test_only_an_alias_is_neither_class_nor_function() -> None:
    """`Event` and `Outcome` are the names that are aliases of types."""
    assert set(aiosupervise.__all__) - set(OBJECTS) == {"Event", "Outcome"}


@pytest.mark.parametrize("name", OBJECTS)
def test_docstrings(name: str) -> None:
    """Every public class and function has a docstring of its own, and so has each of its public methods."""
    thing = getattr(aiosupervise, name)
    assert vars(thing).get("__doc__") or thing.__doc__
    methods = [(key, value) for key, value in vars(thing).items() if not key.startswith("_")]
    bare = [key for key, value in methods if callable(value) and not inspect.getdoc(value)]
    assert bare == []


@pytest.mark.parametrize("name", OBJECTS)
def test_home(name: str) -> None:
    """Classes and functions say that they come from `aiosupervise`, in tracebacks and in the docs."""
    thing = getattr(aiosupervise, name)
    assert thing.__module__ == "aiosupervise"
    assert thing.__qualname__ == thing.__name__ == name
