"""Encodes and decodes values with the user's codec, and checks that decoding restores them unchanged.

json and pickle restore values of plain types unchanged. Any other value is decoded when it is stored, and compared with
the original. Otherwise a difference would be noticed only when a run is replayed, perhaps weeks later.
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Protocol

from aiosupervise._batch.jobs import discard
from aiosupervise._policy.checks import error_text, kind_of, name_of

_PLAIN = frozenset({str, int, float, bool, type(None)})
_NAMES = frozenset({str})
# The same as json.dumps, but without the check of its keyword arguments.
_encode_json = json.JSONEncoder().encode
_decode_json = json.JSONDecoder().raw_decode
_REPAIR = "return plain values, or pass the journal a codec for them"


class Codec(Protocol):
    """Encodes values as text or bytes, and decodes them: a module such as `json` or `pickle`, or any similar object."""

    def dumps(self, value: Any, /) -> str | bytes:
        """Return a value as text or bytes."""

    def loads(self, data: Any, /) -> Any:
        """Return the value that was passed to `dumps`."""


def encode(codec: Codec, value: object, job: str) -> str | bytes:
    """Return the encoded form of a value.

    Args:
        codec: the user's codec.
        value: the value that a job returned.
        job: the name of the job, for the error message.

    Raises:
        TypeError: if the codec cannot encode the value, returns neither str nor bytes, or would not restore the value.
    """
    try:
        data = _encode_json(value) if codec is json else _encode_by(codec, value)
        is_kept = (codec is json or codec is pickle) and (type(value) in _PLAIN or _is_plain(value))
        change = None if is_kept else _change(value, codec.loads(data))
    except Exception as error:
        rule = f"the journal cannot store the value of {job} with the codec {name_of(codec)}"
        raise TypeError(f"{rule}: {error_text(error)}; {_repair(codec)}") from error
    if change is not None:
        rule = f"the journal cannot store the value of {job}, which would come back changed"
        raise TypeError(f"{rule}: {change}; {_repair(codec)}")
    return data


def _repair(codec: Codec) -> str:
    return _REPAIR if codec is pickle else f"{_REPAIR}, such as codec=pickle"


def _encode_by(codec: Codec, value: object) -> str | bytes:
    data = codec.dumps(value)
    if not isinstance(data, (str, bytes)):
        discard(data)
        raise TypeError(f"dumps must return str or bytes; got {kind_of(data)}")
    if isinstance(data, str) and not data.isascii():
        # This raises an error for a lone surrogate, which SQLite would reject.
        data.encode()
    return data


def decode(codec: Codec, data: str | bytes) -> object:
    """Return the value with this encoded form.

    Raises:
        Exception: the codec's own error, if it can no longer decode the value.
    """
    if codec is json and type(data) is str:
        # This costs about half as much as json.loads, which also skips whitespace before and after the value.
        try:
            value, end = _decode_json(data)
        except ValueError:
            # There is whitespace before the value, or the JSON is invalid, for which json.loads raises an error.
            end = -1
        if end == len(data):
            return value
    return codec.loads(data)


def undecodable(codec: Codec, path: str, error: Exception) -> RuntimeError:
    """Return the error for a stored value that the codec can no longer decode."""
    what = f"the journal {path} has a value that the codec {name_of(codec)} cannot decode: {error_text(error)}"
    repair = "restore the code that it needs, or pass the journal a new version= to compute all values again"
    made = RuntimeError(f"{what}; {repair}")
    made.__cause__ = error
    return made


def _is_plain(value: object) -> bool:
    """Return whether json and pickle preserve all types in a value."""
    try:
        return _has_plain_parts(value)
    except RecursionError:
        # The value contains itself, or is nested too deeply.
        return False


def _has_plain_parts(value: object) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    parts: Any = value
    if kind is dict:
        if not _NAMES.issuperset(map(type, parts)):
            return False
        parts = parts.values()
    elif kind is not list:
        return False
    return _PLAIN.issuperset(map(type, parts)) or all(map(_has_plain_parts, parts))


def _change(value: object, again: object) -> str | None:
    """Return a description of how a decoded value differs from the original, or None if it does not differ.

    Lists, tuples, dicts and plain values are compared; other objects only by type, because most have no `__eq__`. A
    value that contains itself, or is nested too deeply, cannot be compared.
    """
    try:
        return _change_of_parts(value, again)
    except RecursionError:
        return None


def _change_of_parts(value: Any, again: Any) -> str | None:
    if type(again) is not type(value):
        return f"{kind_of(value)} comes back as {kind_of(again)}"
    if isinstance(value, dict):
        return _change_of_items([*value, *value.values()], [*again, *again.values()])
    if isinstance(value, (list, tuple)):
        return _change_of_items(value, again)
    is_same = type(value) not in _PLAIN or value == again or value != value  # noqa: PLR0124 - NaN
    return None if is_same else f"{kind_of(value)} comes back as {kind_of(again)}"


def _change_of_items(values: Any, again: Any) -> str | None:
    if len(values) != len(again):
        return f"a collection of {len(values)} comes back with {len(again)}"
    return next(filter(None, map(_change_of_parts, values, again)), None)
