"""Keys of inputs: canonical JSON of the input, or of the text that the user's key function returns for it.

A key has to be the same in every process and every version of Python, and different for inputs that differ. Therefore
only values of exact built-in types have a key: an enum, a named tuple or a NumPy scalar would lose its type in JSON,
and the repr or the pickle of an object changes with its code. `1`, `"1"`, `1.0` and `True` have four different keys,
and `0.0` and `-0.0` have different keys too. A list and a tuple of the same values have the same key, and the order of
the keys in a dict does not matter.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

from aiosupervise._batch.jobs import discard
from aiosupervise._policy.checks import error_text, kind_of

_SCALARS = frozenset({str, int, float, bool, type(None)})
# An int of smaller magnitude has few enough digits to be converted to text.
_LARGEST = 2**63

_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_ascii = json.JSONEncoder(allow_nan=False, sort_keys=True, separators=(",", ":")).encode

KeyFunction = Callable[[Any], str]


def key_of(key: KeyFunction | None, item: object, index: int) -> str:
    """Return the key of an input.

    Args:
        key: the user's key function; None for the input itself.
        item: the input.
        index: the position of the input in the source, for the error message.

    Raises:
        TypeError: if the input has no stable key, or if the key function raises an error or does not return a str.
    """
    if key is not None:
        return _encode(_call(key, item, index))
    kind = type(item)
    if kind is str:
        return _encode(item)
    if kind is int and -_LARGEST < item < _LARGEST:  # type: ignore[operator]  # an int
        return str(item)
    try:
        part = _unstable_part(item)
        if part is None:
            return _encode(item)
    except (ValueError, RecursionError):
        # The input contains NaN or an int with too many digits, contains itself, or is nested too deeply.
        part = kind_of(item)
    what = "contains" if kind in (list, tuple, dict) else "is"
    rule = f"the journal needs a stable key for each input; input {index} {what} {part}, which has none"
    raise TypeError(f"{rule}: pass a key function, as in Journal('run.db', key=lambda item: item.id)")


def check_keys(items: Iterable[object], key: KeyFunction | None) -> None:
    """Check that every input has a key.

    Raises:
        TypeError: as for `key_of`.

    """
    for index, item in enumerate(items):
        kind = type(item)
        if key is not None or not (kind is str or (kind is int and -_LARGEST < item < _LARGEST)):  # type: ignore[operator]  # an int
            key_of(key, item, index)


def hashes_of(keys: Sequence[str]) -> Sequence[int]:
    """Return a platform-independent hash of each key: a signed 64-bit integer, the integer type of SQLite."""
    digests = b"".join([blake2b(key.encode(), digest_size=8).digest() for key in keys])
    return struct.unpack(f">{len(keys)}q", digests)


def _encode(value: object) -> str:
    text = _canonical(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # SQLite rejects a lone surrogate, which a file name can contain.
            return _ascii(value)
    return text


def _unstable_part(value: object) -> str | None:
    """Return a description of the part of a value that has no stable key, or None if there is none."""
    kind = type(value)
    if kind in _SCALARS:
        return None
    if kind is dict:
        for name in value:  # type: ignore[attr-defined]
            if type(name) is not str:
                return f"the dict key {kind_of(name)}"
        return _unstable_among(value.values())  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return _unstable_among(value)  # type: ignore[arg-type]
    return kind_of(value)


def _unstable_among(values: Iterable[object]) -> str | None:
    return next(filter(None, map(_unstable_part, values)), None)


def _call(key: KeyFunction, item: object, index: int) -> str:
    try:
        text = key(item)
    except Exception as error:
        raise TypeError(f"the key function of the journal raised for input {index}: {error_text(error)}") from error
    if not isinstance(text, str):
        discard(text)
        rule = f"the key function of the journal must return a str; for input {index} it returned {kind_of(text)}"
        raise TypeError(f"{rule}: write key=lambda item: str(item.id)")
    return text
