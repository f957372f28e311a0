"""Values on their way into the file and back: unchanged, or refused."""

import enum
import json
import math
import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosupervise._batch._journal import values
from aiosupervise._batch._journal.values import encode, undecodable


@dataclass
class Page:
    """A value without JSON."""

    text: str


class Thing:
    """An object that equals nothing but itself."""


class Level(enum.IntEnum):
    """A value that JSON takes for an int."""

    LOW = 1


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain kind


def decode(codec: Any, data: str | bytes, path: str) -> Any:
    """The value that the codec returns, or the error that says why not."""
    try:
        return values.decode(codec, data)
    except Exception as error:
        raise undecodable(codec, path, error) from error


class Codec:
    """A codec of a user's own, made of two functions."""

    def __init__(self, dumps: Any, loads: Any = json.loads) -> None:
        self.dumps = dumps
        self.loads = loads


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("codec", [json, pickle, Codec(json.dumps)], ids=["json", "pickle", "own"])
@given(value=PLAIN)
def test_plain_values_come_back(codec: Any, value: object) -> None:
    """Whatever the codec, with their types."""
    again = decode(codec, encode(codec, value, "fetch-0"), "run.db")
    assert (again, repr(again)) == (value, repr(value))


def test_values_that_only_pickle_knows() -> None:
    """Objects come back as what they were, though most do not equal their copies."""
    some = [Page("x"), Thing(), (1, 2), {1: "x"}, {1, 2}, b"x", Level.LOW, Point(1, 2), OrderedDict(a=1), math.nan]
    for value in [*some, some]:
        assert type(decode(pickle, encode(pickle, value, "fetch-0"), "run.db")) is type(value)


def test_nan_comes_back_from_json() -> None:
    """Python writes and reads it, and that it does not equal itself does not count as a change."""
    assert math.isnan(decode(json, encode(json, math.nan, "fetch-0"), "run.db"))
    own = Codec(json.dumps)
    assert encode(own, [math.nan], "fetch-0") == "[NaN]"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((1, 2), "changed: a value of type tuple comes back as a value of type list"),
        ({"a": [(1, 2)]}, "changed: a value of type tuple comes back as a value of type list"),
        ({1: "x"}, "changed: 1 comes back as a value of type str"),
        ({1: "x", "1": "y"}, "changed: 1 comes back as a value of type str|a collection of 4 comes back with 2"),
        (Level.LOW, "changed: a value of type Level comes back as 1"),
        ([Point(1, 2)], "changed: a value of type Point comes back as a value of type list"),
        ({1, 2}, "with the codec json: TypeError: Object of type set is not JSON serializable"),
        (Page("secret"), "with the codec json: TypeError: Object of type Page is not JSON serializable"),
        pytest.param(10**5000, "with the codec json: ValueError", id="long"),
    ],
)
def test_json_refuses_what_would_change(value: object, words: str) -> None:
    """The error names the job, the reason and another codec, and shows nothing of the value itself."""
    with pytest.raises(TypeError, match=f"the value of fetch-3,? .*({words}).*codec=pickle") as caught:
        encode(json, value, "fetch-3")
    assert "secret" not in str(caught.value)


async def never_awaited() -> str:
    """What a codec returns that calls an async function; nobody warns of it."""
    raise AssertionError


def test_pickle_keeps_values_that_contain_themselves() -> None:
    """Such as a tree whose nodes have a reference to their parent: there is no end to comparing them."""
    tree: dict[str, Any] = {"children": []}
    tree["children"].append({"parent": tree})
    again: Any = decode(pickle, encode(pickle, tree, "fetch-3"), "run.db")
    assert again["children"][0]["parent"] is again


class Reduced:
    """A value that pickle restores as another one, or not at all."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __reduce__(self) -> Any:
        return self.function, ()


@pytest.mark.parametrize("value", [lambda: None, Reduced(list)])
def test_the_error_of_pickle_does_not_suggest_pickle(value: object) -> None:
    """It suggests what is left."""
    with pytest.raises(TypeError, match=r"return plain values, or pass the journal a codec for them$"):
        encode(pickle, value, "fetch-3")


def fail() -> None:
    """Return the function that pickle calls to restore the object, and its arguments."""
    raise LookupError("no idea")


def test_a_value_beside_one_that_contains_itself_is_decoded() -> None:
    """The value is stored only if decoding restores it."""
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="with the codec pickle: LookupError: no idea"):
        encode(pickle, [endless, Reduced(fail)], "fetch-3")


def refuse(_: object) -> str:
    """A codec that raises what codecs should not."""
    raise LookupError("no idea")


@pytest.mark.parametrize(
    ("codec", "value", "words"),
    [
        (Codec(lambda _: 5), "x", "dumps must return str or bytes; got 5"),
        (Codec(lambda _: never_awaited()), "x", "dumps must return str or bytes; got a value of type coroutine"),
        (Codec(refuse), "x", "LookupError: no idea"),
        (Codec(json.dumps, refuse), "x", "LookupError: no idea"),
        (Codec(lambda _: "\udc80"), "x", "UnicodeEncodeError"),
        (Codec(lambda _: "null"), math.nan, "nan comes back as None"),
        (Codec(lambda _: "1"), 2, "2 comes back as 1"),
        (Codec(lambda _: "[1]"), [1, 2], "a collection of 2 comes back with 1"),
    ],
)
def test_a_codec_that_fails_or_loses_something(codec: Any, value: object, words: str) -> None:
    """It is a TypeError with the name of the codec, or of what it changes."""
    with pytest.raises(TypeError, match=f"the value of fetch-3.*{words}"):
        encode(codec, value, "fetch-3")


def test_a_value_that_cannot_be_decoded_any_more() -> None:
    """Such as an object of a class that is gone: the error has the file and what to do."""
    data = pickle.dumps(Page("x")).replace(b"Page", b"Gone")
    words = (
        "^the journal run.db has a value that the codec pickle cannot decode: AttributeError: .*; restore the code "
        "that it needs, or pass the journal a new version= to compute all values again$"
    )
    with pytest.raises(RuntimeError, match=words):
        decode(pickle, data, "run.db")
    error = LookupError()
    assert undecodable(pickle, "run.db", error).__cause__ is error


@pytest.mark.parametrize("text", ["1", " 1\n", '{"a": [1, "é", null]}', b"1", '"\\u00e9"', "NaN"], ids=repr)
def test_json_is_decoded_as_json_does(text: str | bytes) -> None:
    """Whatever somebody has written into the file."""
    assert repr(decode(json, text, "run.db")) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", "  ", "1 2", "[1]]", "{", "nul", "'a'", b"\xff"], ids=repr)
def test_what_is_no_json_is_an_error(text: str | bytes) -> None:
    """The one that json raises; no part of it is taken for a value."""
    with pytest.raises(ValueError) as expected:  # noqa: PT011 - the same is expected below
        json.loads(text)
    with pytest.raises(RuntimeError, match="codec json cannot decode") as caught:
        decode(json, text, "run.db")
    assert repr(caught.value.__cause__) == repr(expected.value)


def test_text_outside_of_ascii_is_text() -> None:
    """As long as it can be written."""
    codec = Codec(lambda value: json.dumps(value, ensure_ascii=False))
    assert encode(codec, "é", "fetch-0") == '"é"'
