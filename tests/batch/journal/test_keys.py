"""Keys of inputs: stable, different for inputs that differ, and refused where there can be none."""

import enum
import math
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosupervise._batch._journal.keys import check_keys, hashes_of, key_of


@dataclass
class Document:
    """An input that is an object."""

    id: str


class Color(enum.StrEnum):
    """An input that is a str, and more."""

    RED = "red"


class Size(enum.IntEnum):
    """An input that is an int, and more."""

    SMALL = 1


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain kind


def hash_of(text: str) -> int:
    """The hash of one key."""
    [number] = hashes_of([text])
    return number


def key(item: object) -> str:
    """The key of an input that is its own."""
    return key_of(None, item, 0)


def test_inputs_that_differ_have_different_keys() -> None:
    """Numbers, texts and bools that Python or JSON take for equal are different inputs."""
    items: list[object] = [
        1,
        "1",
        1.0,
        True,
        0.0,
        -0.0,
        0,
        "",
        None,
        "null",
        [],
        {},
        [1],
        ["1"],
        {"a": 1},
        "true",
        1e300,
    ]
    assert len({key(item) for item in items}) == len(items)


@pytest.mark.parametrize(
    ("one", "other"), [({"a": 1, "b": [2]}, {"b": [2], "a": 1}), ((1, "x"), [1, "x"]), ({"é": "ü"}, {"é": "ü"})]
)
def test_equal_json_is_an_equal_key(one: object, other: object) -> None:
    """The order of a dict says nothing, and a tuple is a list."""
    assert key(one) == key(other)


def test_a_key_can_be_read() -> None:
    """It is canonical JSON, whatever the alphabet."""
    assert key("https://example.org/é?q=1") == '"https://example.org/é?q=1"'
    assert key({"b": [1, None], "a": 2.5}) == '{"a":2.5,"b":[1,null]}'
    items: list[object] = [17, 2**70, True, None]
    assert [key(item) for item in items] == ["17", "1180591620717411303424", "true", "null"]


def test_half_of_a_surrogate_pair_has_a_key() -> None:
    """File names can contain it, and it cannot be encoded as UTF-8."""
    assert key("\udc80") == '"\\udc80"' != key("\\udc80")
    assert key({"b": 1, "a": "\udc80"}) == key({"a": "\udc80", "b": 1}) == '{"a":"\\udc80","b":1}'
    assert hash_of(key("\udc80")) != hash_of(key("\udc81"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=6,
)


def typed(value: Any) -> object:
    """A value that equals another only if that has the same types too."""
    if isinstance(value, list):
        return ["list", *map(typed, value)]
    if isinstance(value, dict):
        return {name: typed(part) for name, part in value.items()}
    return type(value).__name__, repr(value)


@given(JSON, JSON)
def test_keys_are_equal_only_for_equal_inputs(one: object, other: object) -> None:
    """And equal inputs have equal keys."""
    assert (key(one) == key(other)) == (typed(one) == typed(other))


def nested(depth: int) -> list[object]:
    """A list in a list, and so on."""
    outer: list[object] = []
    for _ in range(depth):
        outer = [outer]
    return outer


def circle() -> list[object]:
    """A list that contains itself."""
    items: list[object] = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("item", "part"),
    [
        ({1, 2}, "is a value of type set"),
        (b"x", "is a value of type bytes"),
        (Document("a"), "is a value of type Document"),
        (object(), "is a value of type object"),
        (Color.RED, "is a value of type Color"),
        (Size.SMALL, "is a value of type Size"),
        (Point(1, 2), "is a value of type Point"),
        ([1, {"a": b"x"}], "contains a value of type bytes"),
        ({1: "x"}, "contains the dict key 1"),
        (math.nan, "is nan"),
        ([math.inf], "contains a value of type list"),
        pytest.param(10**5000, "is a value of type int that cannot be printed", id="long"),
        pytest.param(nested(100_000), "contains a value of type list", id="deep"),
        pytest.param(circle(), "contains a value of type list", id="circle"),
    ],
)
def test_an_input_without_a_stable_key_is_refused(item: object, part: str) -> None:
    """The error says which input it is, what is the matter with it, and how to give it a key."""
    with pytest.raises(TypeError, match=rf"input 7 {part}.*key=lambda item: item.id"):
        key_of(None, item, 7)


def test_a_key_function_takes_the_place_of_the_input() -> None:
    """Objects have no key of their own; a str that is an enum is a str."""
    assert key_of(lambda doc: doc.id, Document("a"), 0) == key("a")
    assert key_of(lambda _: Color.RED, Document("a"), 0) == key("red")


async def late(_: object) -> str:
    """A function that returns a coroutine where a str is wanted."""
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda doc: doc.name, "raised for input 3: AttributeError: "),
        (lambda _: 5, "must return a str; for input 3 it returned 5: write key=lambda item: str"),
        (lambda doc: late(doc), "it returned a value of type coroutine"),  # noqa: PLW0108 - hides that it is async
    ],
)
def test_a_key_function_that_fails(function: Callable[[Any], Any], words: str) -> None:
    """It is a TypeError too, with the number of the input."""
    with pytest.raises(TypeError, match=words):
        key_of(function, Document("a"), 3)


def test_inputs_are_checked_in_order() -> None:
    """The first one without a key is named; plain ones cost next to nothing."""
    check_keys(["a", 1, 2**70, 0.5, None], None)
    check_keys([Document("a")], lambda doc: doc.id)
    with pytest.raises(TypeError, match="input 2 is a value of type set"):
        check_keys(["a", 1, {1}, b""], None)
    with pytest.raises(TypeError, match="input 1"):
        check_keys(["a", 10**5000], None)
    with pytest.raises(TypeError, match="raised for input 0"):
        check_keys(["a"], lambda doc: doc.id)


def test_a_hash_is_the_same_in_every_process() -> None:
    """Unlike Python's own, and it fits into an integer of SQLite."""
    program = "from aiosupervise._batch._journal.keys import hashes_of; print(hashes_of(['x'])[0])"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert int(made.stdout) == hash_of("x")
    assert -(2**63) <= hash_of("x") < 2**63


def test_keys_and_hashes_are_those_of_every_release() -> None:
    """A file that was written by another version, of Python or of this library, is understood."""
    assert key({"b": [1, 2.5, None, True, 1e22], "a": "é/"}) == '{"a":"é/","b":[1,2.5,null,true,1e+22]}'
    assert hash_of('"a"') == 1616797661514831016


@given(st.text())
def test_hashes_of_texts(text: str) -> None:
    """Every key has one."""
    assert hash_of(key(text)) == hash_of(key(text))
